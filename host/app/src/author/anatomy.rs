//! What a component is made of, by its bytes alone: imports, exports, the sizes of its parts, and who made it.
//!
//! Nothing here judges. It reads also what the gate refuses, as far as it can be read, so that the author sees why.

use serde::Serialize;
use wasmparser::{KnownCustom, Parser, Payload};

/// What a component is made of.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Anatomy {
    /// What it wants of the host.
    pub(crate) imports: Vec<String>,
    /// What it offers.
    pub(crate) exports: Vec<String>,
    /// Core modules inside.
    pub(crate) core_modules: usize,
    /// Components inside.
    pub(crate) components: usize,
    /// The sizes of its parts, in bytes.
    pub(crate) sections: Sections,
    /// Languages and tools that left their names, such as `Rust` and `rustc 1.95.0`.
    pub(crate) made_by: Vec<String>,
    /// Where reading stopped, for bytes that do not parse.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unreadable: Option<String>,
}

/// Bytes by purpose, over all modules.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sections {
    /// Functions.
    pub(crate) code: usize,
    /// What memories begin with.
    pub(crate) data: usize,
    /// Names, debug information and the like: what stripping takes away.
    pub(crate) custom: usize,
    /// Types, tables, glue.
    pub(crate) other: usize,
}

impl Anatomy {
    /// Reads `bytes` as far as they can be read.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut anatomy = Self::default();
        if let Err(error) = anatomy.read(bytes) {
            anatomy.unreadable = Some(error.to_string());
        }
        let Sections { code, data, custom, .. } = anatomy.sections;
        anatomy.sections.other = bytes.len().saturating_sub(code).saturating_sub(data).saturating_sub(custom);
        anatomy
    }

    fn read(&mut self, bytes: &[u8]) -> wasmparser::Result<()> {
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::ModuleSection { .. } => {
                    self.core_modules += 1;
                    depth += 1;
                }
                Payload::ComponentSection { .. } => {
                    self.components += 1;
                    depth += 1;
                }
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::CodeSectionStart { size, .. } => self.sections.code += size as usize,
                Payload::DataSection(section) => self.sections.data += section.range().len(),
                Payload::CustomSection(section) => {
                    self.sections.custom += section.range().len();
                    if let KnownCustom::Producers(producers) = section.as_known() {
                        self.read_producers(producers)?;
                    }
                }
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        self.imports.push(import?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        self.exports.push(export?.name.name.to_owned());
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn read_producers(&mut self, producers: wasmparser::ProducersSectionReader<'_>) -> wasmparser::Result<()> {
        for field in producers {
            for value in field?.values {
                let value = value?;
                let text = format!("{} {}", value.name, value.version);
                let text = text.split('(').next().unwrap_or_default().trim().to_owned();
                if self.made_by.len() < MADE_BY_MAX && !self.made_by.contains(&text) {
                    self.made_by.push(text);
                }
            }
        }
        Ok(())
    }
}

/// Names of tools that are shown.
const MADE_BY_MAX: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: bytes that are no component are described without a panic. Method: rows.
    #[test]
    fn anything_can_be_looked_at() {
        for bytes in [&b""[..], b"not wasm", b"\0asm\x0d\0\x01\0", b"\0asm\x0d\0\x01\0\x07\xff\xff"] {
            let anatomy = Anatomy::of(bytes);
            assert!(anatomy.imports.is_empty() && anatomy.exports.is_empty(), "{bytes:?}");
        }
        assert!(Anatomy::of(b"not wasm").unreadable.is_some());
    }
}
