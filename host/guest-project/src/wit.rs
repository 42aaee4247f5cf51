//! The contract as text, for the toolchains that read it.
//!
//! A project may bring a `wit` folder of its own. Without one this is written for the time of a build.

use std::fs;
use std::io;
use std::path::Path;

/// Writes the contract and what it takes to go out, as a folder that bindings generators read.
pub(crate) fn write(directory: &Path) -> io::Result<()> {
    for (name, text) in FILES {
        let path = directory.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, text)?;
    }
    Ok(())
}

/// Names and texts.
pub(crate) const FILES: [(&str, &str); 11] = [
    ("guest.wit", GUEST),
    ("deps/auth/authentication-strategy.wit", include_str!("../../../wit/auth@0.1.0/authentication-strategy.wit")),
    ("deps/auth/log.wit", include_str!("../../../wit/auth@0.1.0/log.wit")),
    ("deps/auth/permission-policy.wit", include_str!("../../../wit/auth@0.1.0/permission-policy.wit")),
    ("deps/auth/plugin.wit", include_str!("../../../wit/auth@0.1.0/plugin.wit")),
    ("deps/auth/secrets.wit", include_str!("../../../wit/auth@0.1.0/secrets.wit")),
    ("deps/auth/types.wit", include_str!("../../../wit/auth@0.1.0/types.wit")),
    ("deps/auth/worlds.wit", include_str!("../../../wit/auth@0.1.0/worlds.wit")),
    ("deps/clocks/clocks.wit", include_str!("../../../guests/sdk/wit/clocks.wit")),
    ("deps/http/http.wit", include_str!("../../../guests/sdk/wit/http.wit")),
    ("deps/io/io.wit", include_str!("../../../guests/sdk/wit/io.wit")),
];

/// The worlds that a project can be of, by the names in its manifest.
const GUEST: &str = "package witgate:guest;

/// Decides whether a caller may do one thing.
world policy {
    include witgate:auth/policy@0.1.0;
}

/// Yields a cluster's credential.
world strategy {
    include witgate:auth/strategy@0.1.0;
}

/// Yields a cluster's credential, and sends HTTP for it.
world outgoing-strategy {
    include witgate:auth/strategy@0.1.0;
    import wasi:http/outgoing-handler@0.2.12;
    import wasi:clocks/wall-clock@0.2.12;
}
";

#[cfg(test)]
mod tests {
    use wit_parser::Resolve;

    use super::*;
    use crate::World;

    /// Goal: what is written can be read, and has every world that a manifest can name.
    #[test]
    fn every_world_is_there() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path()).unwrap();
        let mut resolve = Resolve::default();
        let (package, _) = resolve.push_dir(directory.path()).unwrap();
        for world in [World::Policy, World::Strategy, World::OutgoingStrategy] {
            assert!(resolve.select_world(&[package], Some(world.name())).is_ok(), "{}", world.name());
        }
    }

    /// Goal: no file of the contract is left out.
    #[test]
    fn the_contract_is_whole() {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for entry in fs::read_dir(repository.join("wit/auth@0.1.0")).unwrap() {
            let name = format!("deps/auth/{}", entry.unwrap().file_name().to_string_lossy());
            assert!(FILES.iter().any(|(known, _)| *known == name), "{name}");
        }
    }
}
