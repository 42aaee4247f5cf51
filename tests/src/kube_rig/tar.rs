//! A `tar` for the fake kubelet's containers, which run nothing: without one there is no `kubectl cp`.
//!
//! It keeps an archive in memory under the name of its first file, and gives it back under that name. To kubectl and
//! to all that stands between, that is a container with one folder.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the fake kubelet's words begin to be told apart, and a word of it.
const CONTAINER: &str = "function container(";
const WORD: &str = "    case 'true': return io.exit(0);\n";

const TAR: &str = r"    case 'tar': {
      if (/^-?c/.test(a[0])) { const kept = archives.get(a[2]); if (kept) io.stdout(kept); return io.exit(kept ? 0 : 2); }
      const parts = [];
      return io.onStdin(part => parts.push(part), () => {
        const archive = Buffer.concat(parts);
        archives.set(archive.toString('latin1', 0, archive.indexOf(0)), archive);
        io.exit(0);
      });
    }
";

/// The fake kubelet beside `script`, with the word `tar`, as a file in `folder`; or why there is none.
pub(super) fn kubelet_with_tar(script: &Path, folder: &Path) -> Result<PathBuf, &'static str> {
    let script = script.canonicalize().map_err(|_| "the rig's script has no path")?;
    let text = fs::read_to_string(script.with_file_name("fake-kubelet.js")).map_err(|_| "there is no fake kubelet")?;
    if text.matches(CONTAINER).count() != 1 || text.matches(WORD).count() != 1 {
        return Err("this fake kubelet cannot be taught `tar`");
    }
    let text = text.replace(WORD, &format!("{WORD}{TAR}"));
    let text = text.replace(CONTAINER, &format!("const archives = new Map();\n{CONTAINER}"));
    let file = folder.join("fake-kubelet.js");
    fs::write(&file, text).map_err(|_| "the fake kubelet cannot be written")?;
    Ok(file)
}
