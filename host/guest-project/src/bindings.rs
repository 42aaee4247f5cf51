//! What wit-bindgen's C generator makes of the contract: for C, and for what calls C.
//!
//! It is kept as text, so that a C project needs a compiler and nothing else. `wit-bindgen c --world WORLD`, version 0.61.1, writes
//! it again, from the `wit` folder of any project, with a last function more, which links the types that are added here later; a released contract never changes, and so neither does this.

use std::fs;
use std::io;
use std::path::Path;

use crate::World;

/// Names and texts for a world; there are none for strategies yet.
pub(crate) fn of(world: World) -> &'static [(&'static str, &'static str)] {
    match world {
        World::Policy => &[
            ("policy.h", include_str!("../bindings/policy.h")),
            ("policy.c", include_str!("../bindings/policy.c")),
            ("settings.h", include_str!("../bindings/settings.h")),
        ],
        World::Strategy | World::OutgoingStrategy => &[],
    }
}

/// Writes them into a folder.
pub(crate) fn write(world: World, directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    of(world).iter().try_for_each(|(name, text)| fs::write(directory.join(name), text))
}
