//! What a component asks of its host.

use wasmparser::{Encoding, Parser, Payload};

/// Why there are no imports to tell.
#[derive(Debug, thiserror::Error)]
pub enum NotAComponent {
    /// It cannot be read.
    #[error("it is not WebAssembly")]
    Parse(#[from] wasmparser::BinaryReaderError),
    /// It is something less.
    #[error("it is a core module")]
    CoreModule,
}

/// The names that the component imports, without those of the components and modules inside it.
///
/// # Errors
/// When it is no component.
pub fn imports(component: &[u8]) -> Result<Vec<String>, NotAComponent> {
    let mut depth = 0_usize;
    let mut names = Vec::new();
    for payload in Parser::new(0).parse_all(component) {
        match payload? {
            Payload::Version { encoding, .. } if depth == 0 && encoding != Encoding::Component => {
                return Err(NotAComponent::CoreModule);
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    names.push(import?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(names)
}
