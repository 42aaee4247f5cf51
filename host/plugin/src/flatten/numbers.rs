//! The numbers that the output has for those that a component has.

use std::convert::Infallible;

use wasm_encoder::Alias;
use wasm_encoder::reencode::{Reencode, ReencodeComponent};
use wasmparser::{ComponentAlias, ComponentOuterAliasKind};

use super::{ComponentItem, Frame, InstanceItem, ancestor, at};

/// The output's numbers for those of one component.
pub(super) struct Numbers<'a> {
    pub(super) frames: &'a [Frame],
    pub(super) frame: usize,
    /// In how many types or components inside this one; their own numbers stay.
    pub(super) depth: u32,
    /// What had no number.
    pub(super) missing: Option<&'static str>,
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
