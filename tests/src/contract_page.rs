//! `docs/contract.md`: the contract as a page to read, made from the WIT's own comments.
//!
//! Nothing in it is written here but headings and signatures, so that the page cannot say anything else than what bindings are made of.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use wit_parser::{Docs, Function, Interface, Resolve, Type, TypeDef, TypeDefKind, World, WorldItem, WorldKey};

use crate::artifacts::repository;

/// Where the page is.
pub fn path() -> PathBuf {
    repository().join("docs/contract.md")
}

/// What it should say: the newest version of the contract.
pub fn text() -> String {
    let folder = newest(&repository().join("wit"));
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(&folder).unwrap();
    let package = resolve.packages.get(package).unwrap();

    let mut page = Page { resolve: &resolve, text: String::new() };
    page.line(&format!("# The contract `{}`", package.name));
    page.line("");
    page.line("<!-- Made by `cargo xtask contract` from the comments in `wit/`. Change those, and run it again. -->");
    page.line("");
    page.line(
        "What the gate and its plug-ins promise each other, as bindings generators read it: the files are in [`wit/`](../wit), a folder for each version, \
         and all versions there are served. This page is the newest one.",
    );
    page.docs(&package.docs);
    page.line("\n## Worlds");
    for world in package.worlds.values() {
        page.world(resolve.worlds.get(*world).unwrap());
    }
    for name in ORDER {
        let interface = package.interfaces.get(name).unwrap_or_else(|| panic!("there is no interface `{name}`"));
        page.interface(name, resolve.interfaces.get(*interface).unwrap());
    }
    let other = package.interfaces.keys().find(|name| !ORDER.contains(&name.as_str()));
    assert_eq!(other, None, "an interface has no place on the page");
    page.text
}

/// The order of reading: what a plug-in's author needs first.
const ORDER: [&str; 6] = ["plugin", "permission-policy", "authentication-strategy", "types", "log", "secrets"];

/// `auth@X` with the greatest X.
fn newest(wit: &Path) -> PathBuf {
    let version = |path: &PathBuf| {
        let version = path.file_name()?.to_str()?.strip_prefix("auth@")?;
        version.split('.').map(|number| number.parse::<u64>().ok()).collect::<Option<Vec<_>>>()
    };
    let folders = fs::read_dir(wit).unwrap().map(|entry| entry.unwrap().path());
    folders.filter(|path| version(path).is_some()).max_by_key(version).expect("there is a version")
}

struct Page<'a> {
    resolve: &'a Resolve,
    text: String,
}

impl Page<'_> {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn docs(&mut self, docs: &Docs) {
        if let Some(contents) = &docs.contents {
            self.line("");
            self.line(contents.trim_end());
        }
    }

    fn world(&mut self, world: &World) {
        self.line(&format!("\n### World `{}`", world.name));
        self.docs(&world.docs);
        self.line("\n```wit");
        for (direction, items) in [("import", &world.imports), ("export", &world.exports)] {
            for (key, item) in items {
                // What an interface uses is imported too; readers have it by following the types.
                let WorldItem::Interface { .. } = item else { continue };
                self.line(&format!("{direction} {};", self.key(key)));
            }
        }
        self.line("```");
    }

    fn key(&self, key: &WorldKey) -> String {
        match key {
            WorldKey::Name(name) => name.clone(),
            WorldKey::Interface(id) => {
                self.resolve.interfaces.get(*id).and_then(|interface| interface.name.clone()).unwrap_or_default()
            }
        }
    }

    fn interface(&mut self, name: &str, interface: &Interface) {
        self.line(&format!("\n## Interface `{name}`"));
        self.docs(&interface.docs);
        for function in interface.functions.values() {
            self.line(&format!("\n### `{}`", function.name));
            let signature = self.signature(function);
            self.line(&format!("\n```wit\n{signature}\n```"));
            self.docs(&function.docs);
        }
        for (name, id) in &interface.types {
            if let Some(definition) = self.resolve.types.get(*id)
                && !is_used_from_elsewhere(definition)
            {
                self.definition(name, definition);
            }
        }
    }

    fn signature(&self, Function { name, params, result, .. }: &Function) -> String {
        let params: Vec<_> =
            params.iter().map(|param| format!("{}: {}", param.name, self.type_name(&param.ty))).collect();
        let result = result.as_ref().map(|result| format!(" -> {}", self.type_name(result))).unwrap_or_default();
        format!("{name}: func({}){result};", params.join(", "))
    }

    fn definition(&mut self, name: &str, definition: &TypeDef) {
        let kind = match &definition.kind {
            TypeDefKind::Type(_) => "type",
            TypeDefKind::List(_) | TypeDefKind::Option(_) | TypeDefKind::Result(_) | TypeDefKind::Tuple(_) => "type",
            other => other.as_str(),
        };
        self.line(&format!("\n### {kind} `{name}`"));
        self.docs(&definition.docs);
        match &definition.kind {
            TypeDefKind::Record(record) => {
                self.rows(record.fields.iter().map(|field| (&field.name, Some(&field.ty), &field.docs)));
            }
            TypeDefKind::Variant(variant) => {
                self.rows(variant.cases.iter().map(|case| (&case.name, case.ty.as_ref(), &case.docs)));
            }
            TypeDefKind::Enum(words) => {
                self.rows(words.cases.iter().map(|case| (&case.name, None, &case.docs)));
            }
            other => {
                let target = self.kind_name(other);
                self.line(&format!("\n```wit\ntype {name} = {target};\n```"));
            }
        }
    }

    /// A list rather than a table: a comment may have paragraphs and tables of its own.
    fn rows<'a>(&mut self, rows: impl Iterator<Item = (&'a String, Option<&'a Type>, &'a Docs)>) {
        self.line("");
        for (name, of, docs) in rows {
            let of = of.map(|of| format!(": `{}`", self.type_name(of))).unwrap_or_default();
            let _ = writeln!(self.text, "- **`{name}`**{of}");
            for line in docs.contents.as_deref().unwrap_or_default().trim_end().lines() {
                let _ = writeln!(self.text, "{}", format!("  {line}").trim_end());
            }
        }
    }

    fn type_name(&self, of: &Type) -> String {
        let Type::Id(id) = of else {
            return match of {
                Type::Bool => "bool",
                Type::U8 => "u8",
                Type::U16 => "u16",
                Type::U32 => "u32",
                Type::U64 => "u64",
                Type::S8 => "s8",
                Type::S16 => "s16",
                Type::S32 => "s32",
                Type::S64 => "s64",
                Type::F32 => "f32",
                Type::F64 => "f64",
                Type::Char => "char",
                _ => "string",
            }
            .to_owned();
        };
        match self.resolve.types.get(*id) {
            Some(TypeDef { name: Some(name), .. }) => name.clone(),
            Some(definition) => self.kind_name(&definition.kind),
            None => String::new(),
        }
    }

    fn kind_name(&self, kind: &TypeDefKind) -> String {
        let or_nothing = |of: &Option<Type>| of.as_ref().map_or_else(|| "_".to_owned(), |of| self.type_name(of));
        match kind {
            TypeDefKind::Option(of) => format!("option<{}>", self.type_name(of)),
            TypeDefKind::List(of) => format!("list<{}>", self.type_name(of)),
            TypeDefKind::Tuple(tuple) => {
                let types: Vec<_> = tuple.types.iter().map(|of| self.type_name(of)).collect();
                format!("tuple<{}>", types.join(", "))
            }
            TypeDefKind::Result(result) => format!("result<{}, {}>", or_nothing(&result.ok), or_nothing(&result.err)),
            TypeDefKind::Type(of) => self.type_name(of),
            other => other.as_str().to_owned(),
        }
    }
}

/// Whether it is another interface's type, brought in by `use`: an alias of that one's name.
fn is_used_from_elsewhere(definition: &TypeDef) -> bool {
    matches!(definition.kind, TypeDefKind::Type(Type::Id(_)))
}
