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

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::ops::Range;
use std::rc::Rc;

use wasm_encoder::reencode::{Reencode, ReencodeComponent};
use wasm_encoder::{
    Alias, CanonicalFunctionSection, Component, ComponentAliasSection, ComponentExportKind, ComponentExportSection,
    ComponentImportSection, ComponentInstanceSection, ComponentSectionId, ComponentTypeSection, CoreTypeSection,
    InstanceSection, RawSection,
};
use wasmparser::{
    CanonicalFunction, Chunk, ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind,
    ExternalKind, Instance, Parser, Payload,
};

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

impl Flattening<'_> {
    /// Writes what the component in `range` is made of.
    fn inline(&mut self, frame: usize, mut parser: Parser, range: Range<usize>) -> Result<(), FlattenError> {
        let whole = self.whole;
        let mut rest = whole.get(range).ok_or(FlattenError::Missing("a section"))?;
        while !rest.is_empty() {
            let Chunk::Parsed { consumed, payload } = parser.parse(rest, true)? else {
                return Err(FlattenError::Missing("a section"));
            };
            rest = rest.get(consumed..).unwrap_or_default();
            if let Payload::ModuleSection { unchecked_range, .. } | Payload::ComponentSection { unchecked_range, .. } =
                &payload
            {
                rest = rest.get(unchecked_range.len()..).ok_or(FlattenError::Missing("a section"))?;
            }
            self.section(frame, payload)?;
        }
        Ok(())
    }

    fn section(&mut self, frame: usize, payload: Payload<'_>) -> Result<(), FlattenError> {
        match payload {
            Payload::ModuleSection { unchecked_range, .. } => {
                let data = self.whole.get(unchecked_range).ok_or(FlattenError::Missing("a module"))?;
                self.output.section(&RawSection { id: ComponentSectionId::CoreModule.into(), data });
                let module = next(&mut self.counts.modules);
                self.calls.stubs.insert(module, stubs(data)?);
                self.frame(frame).modules.push(module);
            }
            Payload::ComponentSection { parser, unchecked_range } => self.component(frame, parser, unchecked_range)?,
            Payload::ComponentTypeSection(section) => {
                for item in section {
                    let mut written = ComponentTypeSection::new();
                    self.renumber(frame, |numbers| numbers.parse_component_type(written.ty(), item?))?;
                    self.output.section(&written);
                    let index = next(&mut self.counts.types);
                    self.frame(frame).types.push(index);
                }
            }
            Payload::CoreTypeSection(section) => {
                for item in section {
                    let item = item?;
                    let count = match &item {
                        wasmparser::CoreType::Rec(group) => group.types().len(),
                        wasmparser::CoreType::Module(_) => 1,
                    };
                    let mut written = CoreTypeSection::new();
                    self.renumber(frame, |numbers| numbers.parse_component_core_type(written.ty(), item))?;
                    self.output.section(&written);
                    for _ in 0..count {
                        let index = next(&mut self.counts.core_types);
                        self.frame(frame).core_types.push(index);
                    }
                }
            }
            Payload::ComponentImportSection(section) => {
                for import in section {
                    self.import(frame, import?)?;
                }
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section {
                    self.alias(frame, alias?)?;
                }
            }
            Payload::InstanceSection(section) => {
                for instance in section {
                    let instance = instance?;
                    let module = match &instance {
                        Instance::Instantiate { module_index, .. } => {
                            Some(at(&self.frame(frame).modules, *module_index, "a module")?)
                        }
                        Instance::FromExports(_) => None,
                    };
                    let mut written = InstanceSection::new();
                    self.renumber(frame, |numbers| numbers.parse_instance(&mut written, instance))?;
                    self.output.section(&written);
                    let index = next(&mut self.counts.core_instances);
                    self.calls.modules.extend(module.map(|module| (index, module)));
                    self.frame(frame).core_instances.push(index);
                }
            }
            Payload::ComponentInstanceSection(section) => {
                for instance in section {
                    let instance = self.instance(frame, instance?)?;
                    self.frame(frame).instances.push(instance);
                }
            }
            Payload::ComponentCanonicalSection(section) => {
                for function in section {
                    let function = function?;
                    let mut lifts = false;
                    match &function {
                        CanonicalFunction::Lift { core_func_index, .. } => {
                            let core = at(&self.frame(frame).core_functions, *core_func_index, "a core function")?;
                            if !self.calls.stub_functions.contains(&core) {
                                self.calls.own_functions.insert(self.counts.functions);
                            }
                            lifts = true;
                        }
                        CanonicalFunction::Lower { func_index, .. } => {
                            let function = at(&self.frame(frame).functions, *func_index, "a function")?;
                            if self.calls.own_functions.contains(&function) {
                                return Err(FlattenError::Unsupported("calls from one to another"));
                            }
                        }
                        _ => {}
                    }
                    let mut written = CanonicalFunctionSection::new();
                    self.renumber(frame, |numbers| numbers.parse_component_canonical(&mut written, function))?;
                    self.output.section(&written);
                    if lifts {
                        let index = next(&mut self.counts.functions);
                        self.frame(frame).functions.push(index);
                    } else {
                        let index = next(&mut self.counts.core_functions);
                        self.frame(frame).core_functions.push(index);
                    }
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    self.export(frame, export?)?;
                }
            }
            Payload::ComponentStartSection { .. } => return Err(FlattenError::Unsupported("a start function")),
            // Names and notes: they count what has moved.
            Payload::CustomSection(_) | Payload::Version { .. } | Payload::End(_) => {}
            _ => return Err(FlattenError::Unsupported("an unknown section")),
        }
        Ok(())
    }

    /// A component inside this one: kept as it is without code in it, else replaced where it is instantiated.
    fn component(&mut self, frame: usize, parser: Parser, range: Range<usize>) -> Result<(), FlattenError> {
        let bytes = self.whole.get(range.clone()).ok_or(FlattenError::Missing("a component"))?;
        let mut has_code = false;
        for payload in parser.clone().parse_all(bytes) {
            has_code |= matches!(payload?, Payload::ModuleSection { .. });
        }
        let item = if has_code {
            ComponentItem::Definition { frame, parser, range }
        } else {
            let mut written = Component::new();
            let whole = self.whole;
            self.renumber(frame, |numbers| {
                numbers.push_depth();
                let parsed = wasm_encoder::reencode::component_utils::parse_component(
                    numbers,
                    &mut written,
                    parser,
                    bytes,
                    whole,
                );
                numbers.pop_depth();
                parsed
            })?;
            self.output.section(&wasm_encoder::NestedComponentSection(&written));
            ComponentItem::Written(next(&mut self.counts.components))
        };
        self.frame(frame).components.push(item);
        Ok(())
    }

    /// At the root an import stays one; elsewhere it is what the instantiation gives.
    fn import(&mut self, frame: usize, import: wasmparser::ComponentImport<'_>) -> Result<(), FlattenError> {
        let item = if frame == ROOT {
            let kind = import.ty.kind();
            let mut written = ComponentImportSection::new();
            self.renumber(frame, |numbers| {
                let ty = numbers.component_type_ref(import.ty)?;
                written.import(import.name, ty);
                Ok(())
            })?;
            self.output.section(&written);
            self.written(kind)?
        } else {
            let given = self.frame(frame).arguments.get(import.name.name).cloned();
            given.ok_or(FlattenError::Missing("an import"))?
        };
        self.push(frame, item);
        Ok(())
    }

    fn alias(&mut self, frame: usize, alias: ComponentAlias<'_>) -> Result<(), FlattenError> {
        let item = match alias {
            ComponentAlias::CoreInstanceExport { kind, instance_index, name } => {
                let instance = at(&self.frame(frame).core_instances, instance_index, "a core instance")?;
                self.write_alias(frame, alias)?;
                let stubs = self.calls.modules.get(&instance).and_then(|module| self.calls.stubs.get(module));
                if kind == ExternalKind::Func && stubs.is_some_and(|stubs| stubs.contains(name)) {
                    self.calls.stub_functions.insert(self.counts.core_functions);
                }
                let Counts { core_functions, core_tables, core_memories, core_globals, core_tags, .. } =
                    &mut self.counts;
                let spaces = self.frames.get_mut(frame).ok_or(FlattenError::Missing("a component"))?;
                match kind {
                    ExternalKind::Func | ExternalKind::FuncExact => spaces.core_functions.push(next(core_functions)),
                    ExternalKind::Table => spaces.core_tables.push(next(core_tables)),
                    ExternalKind::Memory => spaces.core_memories.push(next(core_memories)),
                    ExternalKind::Global => spaces.core_globals.push(next(core_globals)),
                    ExternalKind::Tag => spaces.core_tags.push(next(core_tags)),
                }
                return Ok(());
            }
            ComponentAlias::InstanceExport { kind, instance_index, name } => {
                match at(&self.frame(frame).instances, instance_index, "an instance")? {
                    InstanceItem::Written(instance) => {
                        self.write_alias(frame, alias)?;
                        let own = self.calls.own_instances.contains(&instance);
                        let item = self.written(kind)?;
                        match &item {
                            Item::Function(index) if own => drop(self.calls.own_functions.insert(*index)),
                            Item::Instance(InstanceItem::Written(index)) if own => {
                                self.calls.own_instances.insert(*index);
                            }
                            _ => {}
                        }
                        item
                    }
                    InstanceItem::Exports(exports) => {
                        exports.items.get(name).cloned().ok_or(FlattenError::Missing("an export"))?
                    }
                }
            }
            ComponentAlias::Outer { kind, count, index } => {
                let outer = ancestor(&self.frames, frame, count).ok_or(FlattenError::Missing("an outer component"))?;
                match kind {
                    ComponentOuterAliasKind::CoreModule => Item::Module(at(&outer.modules, index, "a module")?),
                    ComponentOuterAliasKind::Type => Item::Type(at(&outer.types, index, "a type")?),
                    ComponentOuterAliasKind::Component => Item::Component(at(&outer.components, index, "a component")?),
                    ComponentOuterAliasKind::CoreType => {
                        let index = at(&outer.core_types, index, "a core type")?;
                        self.frame(frame).core_types.push(index);
                        return Ok(());
                    }
                }
            }
        };
        self.push(frame, item);
        Ok(())
    }

    fn write_alias(&mut self, frame: usize, alias: ComponentAlias<'_>) -> Result<(), FlattenError> {
        let mut written = ComponentAliasSection::new();
        self.renumber(frame, |numbers| {
            written.alias(numbers.component_alias(alias)?);
            Ok(())
        })?;
        self.output.section(&written);
        Ok(())
    }

    fn instance(&mut self, frame: usize, instance: ComponentInstance<'_>) -> Result<InstanceItem, FlattenError> {
        match instance {
            ComponentInstance::FromExports(exports) => {
                let mut items = BTreeMap::new();
                for export in &exports {
                    items.insert(export.name.name.to_owned(), self.item(frame, export.kind, export.index)?);
                }
                self.exports(items)
            }
            ComponentInstance::Instantiate { component_index, args } => {
                let mut given = BTreeMap::new();
                for argument in &args {
                    given.insert(argument.name.to_owned(), self.item(frame, argument.kind, argument.index)?);
                }
                match at(&self.frame(frame).components, component_index, "a component")? {
                    ComponentItem::Written(component) => {
                        let mut arguments = Vec::new();
                        for (name, item) in &given {
                            let (kind, index) = self.whole_item(item)?;
                            arguments.push((name.as_str(), kind, index));
                        }
                        let mut written = ComponentInstanceSection::new();
                        written.instantiate(component, arguments);
                        self.output.section(&written);
                        let index = next(&mut self.counts.instances);
                        if given.values().any(|item| self.is_own(item)) {
                            self.calls.own_instances.insert(index);
                        }
                        Ok(InstanceItem::Written(index))
                    }
                    ComponentItem::Definition { frame: parent, parser, range } => {
                        self.instantiations += 1;
                        if self.instantiations > INSTANTIATIONS_MAX {
                            return Err(FlattenError::TooMany);
                        }
                        let inner = self.frames.len();
                        self.frames.push(Frame { parent: Some(parent), arguments: given, ..Frame::default() });
                        self.inline(inner, parser, range)?;
                        let exports = std::mem::take(&mut self.frame(inner).exports);
                        self.exports(exports)
                    }
                }
            }
        }
    }

    /// At the root an export stays one; elsewhere it is another name for what it exports.
    fn export(&mut self, frame: usize, export: wasmparser::ComponentExport<'_>) -> Result<(), FlattenError> {
        let item = self.item(frame, export.kind, export.index)?;
        let item = if frame == ROOT {
            let (kind, index) = self.whole_item(&item)?;
            let mut written = ComponentExportSection::new();
            self.renumber(frame, |numbers| {
                let ty = export.ty.map(|ty| numbers.component_type_ref(ty)).transpose()?;
                written.export(export.name, kind, index, ty);
                Ok(())
            })?;
            self.output.section(&written);
            self.written(export.kind)?
        } else {
            self.frame(frame).exports.insert(export.name.name.to_owned(), item.clone());
            item
        };
        self.push(frame, item);
        Ok(())
    }

    fn exports(&self, items: BTreeMap<String, Item>) -> Result<InstanceItem, FlattenError> {
        let depths = items.values().map(|item| match item {
            Item::Instance(InstanceItem::Exports(inner)) => inner.depth,
            _ => 0,
        });
        let depth = depths.max().unwrap_or_default() + 1;
        if depth > DEPTH_MAX {
            return Err(FlattenError::TooDeep);
        }
        let own = items.values().any(|item| self.is_own(item));
        Ok(InstanceItem::Exports(Rc::new(Exports { items, depth, own, written: Cell::default() })))
    }

    /// Whether it is the component's own code, or gives a way to it.
    fn is_own(&self, item: &Item) -> bool {
        match item {
            Item::Function(index) => self.calls.own_functions.contains(index),
            Item::Instance(InstanceItem::Written(index)) => self.calls.own_instances.contains(index),
            Item::Instance(InstanceItem::Exports(exports)) => exports.own,
            Item::Type(_) | Item::Module(_) | Item::Component(_) => false,
        }
    }

    /// The index in the output of something that is needed whole.
    fn whole_item(&mut self, item: &Item) -> Result<(ComponentExportKind, u32), FlattenError> {
        Ok(match item {
            Item::Function(index) => (ComponentExportKind::Func, *index),
            Item::Type(index) => (ComponentExportKind::Type, *index),
            Item::Module(index) => (ComponentExportKind::Module, *index),
            Item::Component(ComponentItem::Written(index)) => (ComponentExportKind::Component, *index),
            Item::Component(ComponentItem::Definition { .. }) => {
                return Err(FlattenError::Unsupported("a component as an argument"));
            }
            Item::Instance(InstanceItem::Written(index)) => (ComponentExportKind::Instance, *index),
            Item::Instance(InstanceItem::Exports(exports)) => {
                if let Some(index) = exports.written.get() {
                    return Ok((ComponentExportKind::Instance, index));
                }
                let mut items = Vec::new();
                for (name, item) in &exports.items {
                    let (kind, index) = self.whole_item(item)?;
                    items.push((name.as_str(), kind, index));
                }
                let mut written = ComponentInstanceSection::new();
                written.export_items(items);
                self.output.section(&written);
                let index = next(&mut self.counts.instances);
                exports.written.set(Some(index));
                (ComponentExportKind::Instance, index)
            }
        })
    }

    fn item(&mut self, frame: usize, kind: ComponentExternalKind, index: u32) -> Result<Item, FlattenError> {
        let spaces = self.frame(frame);
        Ok(match kind {
            ComponentExternalKind::Func => Item::Function(at(&spaces.functions, index, "a function")?),
            ComponentExternalKind::Type => Item::Type(at(&spaces.types, index, "a type")?),
            ComponentExternalKind::Module => Item::Module(at(&spaces.modules, index, "a module")?),
            ComponentExternalKind::Instance => Item::Instance(at(&spaces.instances, index, "an instance")?),
            ComponentExternalKind::Component => Item::Component(at(&spaces.components, index, "a component")?),
            ComponentExternalKind::Value => return Err(FlattenError::Unsupported("values")),
        })
    }

    /// What was written last.
    fn written(&mut self, kind: ComponentExternalKind) -> Result<Item, FlattenError> {
        let counts = &mut self.counts;
        Ok(match kind {
            ComponentExternalKind::Func => Item::Function(next(&mut counts.functions)),
            ComponentExternalKind::Type => Item::Type(next(&mut counts.types)),
            ComponentExternalKind::Module => Item::Module(next(&mut counts.modules)),
            ComponentExternalKind::Instance => Item::Instance(InstanceItem::Written(next(&mut counts.instances))),
            ComponentExternalKind::Component => Item::Component(ComponentItem::Written(next(&mut counts.components))),
            ComponentExternalKind::Value => return Err(FlattenError::Unsupported("values")),
        })
    }

    fn push(&mut self, frame: usize, item: Item) {
        let spaces = self.frame(frame);
        match item {
            Item::Function(index) => spaces.functions.push(index),
            Item::Type(index) => spaces.types.push(index),
            Item::Module(index) => spaces.modules.push(index),
            Item::Instance(instance) => spaces.instances.push(instance),
            Item::Component(component) => spaces.components.push(component),
        }
    }

    fn frame(&mut self, frame: usize) -> &mut Frame {
        self.frames.get_mut(frame).expect("frames are only added")
    }

    /// Writes something with the output's numbers.
    fn renumber(
        &mut self,
        frame: usize,
        write: impl FnOnce(&mut Numbers<'_>) -> Result<(), wasm_encoder::reencode::Error<Infallible>>,
    ) -> Result<(), FlattenError> {
        let mut numbers = Numbers { frames: &self.frames, frame, depth: 0, missing: None };
        write(&mut numbers)?;
        numbers.missing.map_or(Ok(()), |what| Err(FlattenError::Missing(what)))
    }
}

/// The output's numbers for those of one component.
struct Numbers<'a> {
    frames: &'a [Frame],
    frame: usize,
    /// In how many types or components inside this one; their own numbers stay.
    depth: u32,
    /// What had no number.
    missing: Option<&'static str>,
}

impl Numbers<'_> {
    fn own(&mut self, what: &'static str, index: u32, space: impl FnOnce(&Frame) -> &Vec<u32>) -> u32 {
        if self.depth > 0 { index } else { self.of(0, what, index, space) }
    }

    fn of(&mut self, count: u32, what: &'static str, index: u32, space: impl FnOnce(&Frame) -> &Vec<u32>) -> u32 {
        let found = ancestor(self.frames, self.frame, count).map(|frame| at(space(frame), index, what));
        if let Some(Ok(index)) = found {
            return index;
        }
        self.missing = Some(what);
        u32::MAX
    }
}

type Encoded<T> = Result<T, wasm_encoder::reencode::Error<Infallible>>;

impl Reencode for Numbers<'_> {
    type Error = Infallible;

    fn function_index(&mut self, index: u32) -> Encoded<u32> {
        Ok(self.own("a core function", index, |frame| &frame.core_functions))
    }

    fn global_index(&mut self, index: u32) -> Encoded<u32> {
        Ok(self.own("a global", index, |frame| &frame.core_globals))
    }

    fn memory_index(&mut self, index: u32) -> Encoded<u32> {
        Ok(self.own("a memory", index, |frame| &frame.core_memories))
    }

    fn table_index(&mut self, index: u32) -> Encoded<u32> {
        Ok(self.own("a table", index, |frame| &frame.core_tables))
    }

    fn tag_index(&mut self, index: u32) -> Encoded<u32> {
        Ok(self.own("a tag", index, |frame| &frame.core_tags))
    }

    fn type_index(&mut self, index: u32) -> Encoded<u32> {
        Ok(self.own("a core type", index, |frame| &frame.core_types))
    }
}

impl ReencodeComponent for Numbers<'_> {
    fn component_type_index(&mut self, index: u32) -> u32 {
        self.own("a type", index, |frame| &frame.types)
    }

    fn component_func_index(&mut self, index: u32) -> u32 {
        self.own("a function", index, |frame| &frame.functions)
    }

    fn module_index(&mut self, index: u32) -> u32 {
        self.own("a module", index, |frame| &frame.modules)
    }

    fn instance_index(&mut self, index: u32) -> u32 {
        self.own("a core instance", index, |frame| &frame.core_instances)
    }

    /// Asked for only where the instance is known to be written.
    fn component_instance_index(&mut self, index: u32) -> u32 {
        if self.depth > 0 {
            return index;
        }
        let instance = ancestor(self.frames, self.frame, 0).map(|frame| at(&frame.instances, index, "an instance"));
        if let Some(Ok(InstanceItem::Written(index))) = instance {
            return index;
        }
        self.missing = Some("an instance");
        u32::MAX
    }

    fn push_depth(&mut self) {
        self.depth += 1;
    }

    fn pop_depth(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    /// What reaches out of the types and components that stay reaches into the one component that comes of it all.
    fn component_alias<'a>(&mut self, alias: ComponentAlias<'a>) -> Encoded<Alias<'a>> {
        let ComponentAlias::Outer { kind, count, index } = alias else {
            return wasm_encoder::reencode::component_utils::component_alias(self, alias);
        };
        let Some(beyond) = count.checked_sub(self.depth) else {
            return Ok(Alias::Outer { kind: kind.into(), count, index });
        };
        let index = match kind {
            ComponentOuterAliasKind::CoreModule => self.of(beyond, "a module", index, |frame| &frame.modules),
            ComponentOuterAliasKind::CoreType => self.of(beyond, "a core type", index, |frame| &frame.core_types),
            ComponentOuterAliasKind::Type => self.of(beyond, "a type", index, |frame| &frame.types),
            ComponentOuterAliasKind::Component => {
                let frame = ancestor(self.frames, self.frame, beyond);
                match frame.map(|frame| at(&frame.components, index, "a component")) {
                    Some(Ok(ComponentItem::Written(index))) => index,
                    _ => {
                        self.missing = Some("a component");
                        u32::MAX
                    }
                }
            }
        };
        Ok(Alias::Outer { kind: kind.into(), count: self.depth, index })
    }
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
