//! Tells a component from what people take for one, before anything is compiled.

use witgate_core::PluginName;

use crate::LoadError;

/// Refuses what is no component, or too large to be one, in words for whoever put it there.
pub(crate) fn recognise(plugin: &PluginName, bytes: &[u8]) -> Result<(), LoadError> {
    let plugin = || plugin.clone();
    match bytes {
        [b'\0', b'a', b's', b'm', _, _, 1, 0, ..] => {}
        [b'\0', b'a', b's', b'm', 1, 0, 0, 0, ..] => return Err(LoadError::CoreModule { plugin: plugin() }),
        _ => return Err(LoadError::NotWebAssembly { plugin: plugin(), first_bytes: shown(bytes) }),
    }
    if bytes.len() > COMPONENT_BYTES_MAX {
        return Err(LoadError::TooLarge { plugin: plugin(), bytes: bytes.len(), bytes_max: COMPONENT_BYTES_MAX });
    }
    Ok(())
}

fn shown(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "missing (the file is empty)".to_owned();
    }
    let first = bytes.get(..8).unwrap_or(bytes);
    let digits: Vec<String> = first.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("`{}` (\"{}\")", digits.join(" "), first.escape_ascii())
}

/// A Python guest with its interpreter has some 40 MB.
const COMPONENT_BYTES_MAX: usize = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: whoever drops in the wrong file learns what it is. Method: rows of first bytes.
    #[test]
    fn other_files_are_recognised() {
        check(b"\0asm\x0d\0\x01\0", "ok");
        check(
            b"\0asm\x01\0\0\0rest",
            "`x.wasm` is not a component: it is a core module; build it with `witgate plugin build`, or make a component of it with `wasm-tools component new`",
        );
        check(
            b"#!/bin/sh\n",
            "`x.wasm` is not WebAssembly: its first bytes are `23 21 2f 62 69 6e 2f 73` (\"#!/bin/s\"), a component's are `00 61 73 6d 0d 00 01 00`",
        );
        check(
            b"\0as",
            "`x.wasm` is not WebAssembly: its first bytes are `00 61 73` (\"\\x00as\"), a component's are `00 61 73 6d 0d 00 01 00`",
        );
        check(
            b"",
            "`x.wasm` is not WebAssembly: its first bytes are missing (the file is empty), a component's are `00 61 73 6d 0d 00 01 00`",
        );
    }

    #[track_caller]
    fn check(bytes: &[u8], expected: &str) {
        let got = match recognise(&PluginName::try_from("x").unwrap(), bytes) {
            Ok(()) => "ok".to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(got, expected);
    }
}
