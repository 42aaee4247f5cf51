//! Walks a component section by section, and writes what it is made of.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Range;
use std::rc::Rc;

use wasm_encoder::reencode::ReencodeComponent as _;
use wasm_encoder::{
    CanonicalFunctionSection, Component, ComponentAliasSection, ComponentExportKind, ComponentExportSection,
    ComponentImportSection, ComponentInstanceSection, ComponentSectionId, ComponentTypeSection, CoreTypeSection,
    InstanceSection, RawSection,
};
use wasmparser::{
    CanonicalFunction, Chunk, ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind,
    ExternalKind, Instance, Parser, Payload,
};

use super::numbers::Numbers;
use super::{
    ComponentItem, Counts, DEPTH_MAX, Exports, FlattenError, Flattening, Frame, INSTANTIATIONS_MAX, InstanceItem, Item,
    ROOT, ancestor, at, next, stubs,
};

impl Flattening<'_> {
    /// Writes what the component in `range` is made of.
    pub(super) fn inline(&mut self, frame: usize, mut parser: Parser, range: Range<usize>) -> Result<(), FlattenError> {
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
