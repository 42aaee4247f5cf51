//! Makes one component of components inside a component, so that its state can be read.
//!
//! Some toolchains (componentize-qjs, or any composition) deliver a component whose core modules lie in components
//! inside it. [`snapshot`](crate::snapshot) reads what stands at the top only. Here each instantiation of such a component is
//! replaced by what it is made of: its definitions move to the top, its imports become what they were given, its exports
//! what they stand for. Nothing of the code is changed, and components without core modules stay as they are.
//!
//! One thing would change: a component may call another, and never itself. So where one inside it calls a function of another, which
//! is more than a stub that traps, it stays as it is.
//!
//! It does not validate: what comes of it is compiled as any other component, and where that fails there is no snapshot.

mod numbers;
mod walk;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::ops::Range;
use std::rc::Rc;

use wasm_encoder::Component;
use wasmparser::{ExternalKind, Parser, Payload};

/// Why components inside a component cannot be made one.
#[derive(Debug, thiserror::Error)]
pub enum FlattenError {
    /// It is not a component's binary form.
    #[error("it cannot be read as a component")]
    Parse(#[from] wasmparser::BinaryReaderError),
    /// It is one that cannot be written again.
    #[error("it cannot be written again")]
    Encode(#[from] wasm_encoder::reencode::Error<Infallible>),
    /// It has what no toolchain is known to make.
    #[error("the components inside it use {0}, which cannot be moved to its top")]
    Unsupported(&'static str),
    /// Something refers to nothing.
    #[error("it refers to {0} that is not there")]
    Missing(&'static str),
    /// More in one another than `DEPTH_MAX`.
    #[error("it has more than {DEPTH_MAX} components or instances in one another")]
    TooDeep,
    /// More instantiations than `INSTANTIATIONS_MAX`.
    #[error("it instantiates more than {INSTANTIATIONS_MAX} components with code in them")]
    TooMany,
}

/// The component as one, where components with code in them are inside it; else none.
///
/// # Errors
/// When it cannot be: what would come of it would do something else, or the bytes are no component.
pub fn flatten(component: &[u8]) -> Result<Option<Vec<u8>>, FlattenError> {
    if !modules_inside(component)? {
        return Ok(None);
    }
    let mut flattening = Flattening {
        whole: component,
        output: Component::new(),
        counts: Counts::default(),
        frames: vec![Frame::default()],
        instantiations: 0,
        calls: Calls::default(),
    };
    flattening.inline(ROOT, Parser::new(0), 0..component.len())?;
    Ok(Some(flattening.output.finish()))
}

/// The exported functions that do nothing but trap.
fn stubs(module: &[u8]) -> Result<BTreeSet<String>, FlattenError> {
    let mut imported: usize = 0;
    let mut exports = Vec::new();
    let mut trapping = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    imported += usize::from(matches!(import?.ty, wasmparser::TypeRef::Func(_)));
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    if export.kind == ExternalKind::Func {
                        exports.push((export.name.to_owned(), export.index));
                    }
                }
            }
            Payload::CodeSectionEntry(body) => {
                let mut operators = body.get_operators_reader()?;
                let traps = body.get_locals_reader()?.get_count() == 0
                    && matches!(operators.read()?, wasmparser::Operator::Unreachable);
                trapping.push(traps);
            }
            _ => {}
        }
    }
    let traps = |index: u32| {
        let defined = usize::try_from(index).ok().and_then(|index| index.checked_sub(imported));
        defined.and_then(|index| trapping.get(index)).copied().unwrap_or(false)
    };
    Ok(exports.into_iter().filter(|(_, index)| traps(*index)).map(|(name, _)| name).collect())
}

/// Whether a core module lies in a component that is inside this one.
fn modules_inside(component: &[u8]) -> Result<bool, FlattenError> {
    // What a payload opens, the matching `End` closes.
    let mut open: usize = 0;
    let mut found = false;
    for payload in Parser::new(0).parse_all(component) {
        match payload? {
            Payload::ModuleSection { .. } => {
                found |= open > 0;
                open += 1;
            }
            Payload::ComponentSection { .. } => open += 1,
            Payload::End(_) => open = open.saturating_sub(1),
            _ => {}
        }
        if open > DEPTH_MAX {
            return Err(FlattenError::TooDeep);
        }
    }
    Ok(found)
}

struct Flattening<'a> {
    whole: &'a [u8],
    output: Component,
    counts: Counts,
    /// The root, and one for each instantiation that was replaced.
    frames: Vec<Frame>,
    instantiations: usize,
    calls: Calls,
}

/// What must not be called from inside: it would be the component itself, which traps.
#[derive(Default)]
struct Calls {
    /// Of each module of the output, the exports that do nothing but trap: these may be.
    stubs: BTreeMap<u32, BTreeSet<String>>,
    /// The modules of the core instances that are made of one.
    modules: BTreeMap<u32, u32>,
    stub_functions: BTreeSet<u32>,
    /// Functions that are the component's own code.
    own_functions: BTreeSet<u32>,
    /// Instances that export some.
    own_instances: BTreeSet<u32>,
}

/// How many of each there are in the output.
#[derive(Default)]
struct Counts {
    core_types: u32,
    core_functions: u32,
    core_tables: u32,
    core_memories: u32,
    core_globals: u32,
    core_tags: u32,
    core_instances: u32,
    modules: u32,
    types: u32,
    functions: u32,
    instances: u32,
    components: u32,
}

/// The index spaces of one component: what each index is in the output.
#[derive(Default)]
struct Frame {
    /// The one in which this component is defined.
    parent: Option<usize>,
    arguments: BTreeMap<String, Item>,
    exports: BTreeMap<String, Item>,
    core_types: Vec<u32>,
    core_functions: Vec<u32>,
    core_tables: Vec<u32>,
    core_memories: Vec<u32>,
    core_globals: Vec<u32>,
    core_tags: Vec<u32>,
    core_instances: Vec<u32>,
    modules: Vec<u32>,
    types: Vec<u32>,
    functions: Vec<u32>,
    instances: Vec<InstanceItem>,
    components: Vec<ComponentItem>,
}

/// What can be given to a component, or had of one.
#[derive(Clone)]
enum Item {
    Function(u32),
    Type(u32),
    Module(u32),
    Instance(InstanceItem),
    Component(ComponentItem),
}

#[derive(Clone)]
enum InstanceItem {
    /// One of the output.
    Written(u32),
    /// What a replaced instantiation exports, or a bag of things: in the output only where it is needed whole.
    Exports(Rc<Exports>),
}

struct Exports {
    items: BTreeMap<String, Item>,
    /// How many of its kind are in one another.
    depth: usize,
    /// Whether any of it is the component's own code.
    own: bool,
    /// Where it is in the output, once it is needed there.
    written: Cell<Option<u32>>,
}

#[derive(Clone)]
enum ComponentItem {
    /// One of the output, without code in it.
    Written(u32),
    /// To be replaced where it is instantiated.
    Definition { frame: usize, parser: Parser, range: Range<usize> },
}

fn ancestor(frames: &[Frame], frame: usize, count: u32) -> Option<&Frame> {
    let mut found = frames.get(frame)?;
    for _ in 0..count {
        found = frames.get(found.parent?)?;
    }
    Some(found)
}

fn at<T: Clone>(space: &[T], index: u32, what: &'static str) -> Result<T, FlattenError> {
    usize::try_from(index).ok().and_then(|index| space.get(index)).cloned().ok_or(FlattenError::Missing(what))
}

/// The number of what is written now.
const fn next(count: &mut u32) -> u32 {
    let index = *count;
    *count += 1;
    index
}

const ROOT: usize = 0;

/// Toolchains make three; what is deeper is walked in vain, on a stack.
const DEPTH_MAX: usize = 16;

/// A component that instantiates others that instantiate others grows with each; toolchains make two or three.
const INSTANTIATIONS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use wasmtime::component::{Component, Linker};
    use wasmtime::{Engine, Store};

    use super::*;

    /// Goal: what is made one does what it did. Method: a component of components, called as it is and flat; the state of the flat one can
    /// be read, as there is nothing inside it any more.
    #[test]
    fn a_component_of_components_does_what_it_did() {
        let nested = wat::parse_str(NESTED).unwrap();
        let flat = flatten(&nested).unwrap().expect("it has components with code in them");
        assert!(!modules_inside(&flat).unwrap());
        let mut wizer = wasmtime_wizer::Wizer::new();
        wizer.keep_init_func(true);
        assert!(wizer.instrument_component(&nested).is_err());
        assert!(wizer.instrument_component(&flat).is_ok());
        for component in [&nested, &flat] {
            assert_eq!(called(component), 42);
        }
    }

    /// Goal: what has no code inside it, or what would not do what it did, stays. Method: a row each.
    #[test]
    fn what_cannot_be_one_stays() {
        check("(component)", "stays");
        check("(component (core module))", "stays");
        check("(component (component (core module)))", "flat");
        check("(component (component (component)))", "stays");
        check(
            &NESTED.replace("unreachable", "i32.const 1"),
            "the components inside it use calls from one to another, which cannot be moved to its top",
        );
        let deep = "(component ".repeat(DEPTH_MAX + 1) + "(core module)" + &")".repeat(DEPTH_MAX + 1);
        check(&deep, "it has more than 16 components or instances in one another");
        let many = format!(
            "(component (component $c (core module)) {})",
            "(instance (instantiate $c))".repeat(INSTANTIATIONS_MAX + 1)
        );
        check(&many, "it instantiates more than 32 components with code in them");
        // Each is instantiated twice by the next: without a limit there would be two to the tenth.
        let doubled = "(component $c ".repeat(10)
            + "(core module)"
            + &") (instance (instantiate $c)) (instance (instantiate $c))".repeat(9)
            + ")";
        check(
            &format!("(component {doubled} (instance (instantiate $c)))"),
            "it instantiates more than 32 components with code in them",
        );
    }

    /// Goal: bytes that are no component are an error and no panic. Method: every prefix of one, and every byte of it changed.
    #[test]
    fn broken_components_are_errors() {
        let whole = wat::parse_str(NESTED).unwrap();
        for end in 0..whole.len() {
            let _ = flatten(whole.get(..end).unwrap());
        }
        for at in 0..whole.len() {
            for other in [0, 0x7f, 0xff] {
                let mut changed = whole.clone();
                *changed.get_mut(at).unwrap() = other;
                let _ = flatten(&changed);
            }
        }
    }

    #[track_caller]
    fn check(component: &str, expected: &str) {
        let component = wat::parse_str(component).unwrap();
        let got = match flatten(&component) {
            Ok(None) => "stays".to_owned(),
            Ok(Some(flat)) => {
                Component::new(&Engine::default(), flat).unwrap();
                "flat".to_owned()
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(got, expected);
    }

    fn called(component: &[u8]) -> u32 {
        let engine = Engine::default();
        let component = Component::new(&engine, component).unwrap();
        let mut linker = Linker::<()>::new(&engine);
        linker.instance("test:host/numbers").unwrap().func_wrap("base", |_, ()| Ok((41_u32,))).unwrap();
        let mut store = Store::new(&engine, ());
        let instance = linker.instantiate(&mut store, &component).unwrap();
        let interface = instance.get_export_index(&mut store, None, "test:guest/sum").unwrap();
        let function = instance.get_export_index(&mut store, Some(&interface), "get").unwrap();
        let function = instance.get_typed_func::<(), (u32,)>(&mut store, &function).unwrap();
        function.call(&mut store, ()).unwrap().0
    }

    /// As toolchains make them: the guest inside, with the host's interface from outside and another component's stub.
    const NESTED: &str = r#"(component
        (type $numbers (instance (export "base" (func (result u32)))))
        (import "test:host/numbers" (instance $numbers (type $numbers)))
        (component $guest
            (alias outer 1 $numbers (type $numbers))
            (import "numbers" (instance $given (type $numbers)))
            (import "never" (func $never (result u32)))
            (core module $code
                (import "h" "base" (func $base (result i32)))
                (import "h" "never" (func $never (result i32)))
                (memory (export "memory") 1)
                (func (export "get") (result i32) (i32.add (call $base) (i32.const 1)))
                (func (export "dare") (result i32) (call $never)))
            (core func $base (canon lower (func $given "base")))
            (core func $never (canon lower (func $never)))
            (core instance $host (export "base" (func $base)) (export "never" (func $never)))
            (core instance $code (instantiate $code (with "h" (instance $host))))
            (func $get (result u32) (canon lift (core func $code "get")))
            (component $shim
                (import "get" (func $get (result u32)))
                (export "get" (func $get)))
            (instance $sum (instantiate $shim (with "get" (func $get))))
            (export "test:guest/sum" (instance $sum)))
        (component $other
            (core module $code (func (export "never") (result i32) unreachable))
            (core instance $code (instantiate $code))
            (func (export "never") (result u32) (canon lift (core func $code "never"))))
        (instance $other (instantiate $other))
        (instance $guest (instantiate $guest (with "numbers" (instance $numbers)) (with "never" (func $other "never"))))
        (export "test:guest/sum" (instance $guest "test:guest/sum")))"#;
}
