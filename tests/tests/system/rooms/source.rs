//! Reads the modules of a crate with `syn`, and resolves the paths in them to the files that define what they name.
//!
//! Code below `#[cfg(test)]` is left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Attribute, Item, ItemMacro, ItemMod, ItemUse, Meta, UseTree, Visibility,
    spanned::Spanned as _,
    visit::{self, Visit},
};

/// The names that were looked up in a module on the way to a definition, so that re-exports in a ring end.
type Visited = BTreeSet<(ModuleId, String)>;

/// The index of a module in [`Source::modules`].
pub type ModuleId = usize;

/// A module, in a file or inside the braces of another one.
#[derive(Debug)]
pub struct Module {
    /// The names from the root of the crate to this module.
    pub path: Vec<String>,
    /// The module whose file holds this one; itself, unless it is written inside another module.
    pub file_module: ModuleId,
    /// The file.
    pub file: PathBuf,
    parent: Option<ModuleId>,
    children: BTreeMap<String, ModuleId>,
    items: BTreeSet<String>,
    imports: Vec<Import>,
    mentions: Vec<Mention>,
}

/// A name that a `use` brings into a module. The name of `use a::*` is `*`.
#[derive(Debug)]
struct Import {
    name: String,
    segments: Vec<String>,
}

/// A path in the code of a module.
#[derive(Debug)]
struct Mention {
    segments: Vec<String>,
    line: usize,
}

/// What a path means: a module, or an item that this module defines.
#[derive(Debug, Clone, Copy)]
enum Named {
    Module(ModuleId),
    Item(ModuleId),
}

/// A file that uses another one: `from` names something that `to` defines.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrow {
    pub from: ModuleId,
    pub to: ModuleId,
    /// The first line of `from` that uses it.
    pub line: usize,
}

/// The source of a crate: the modules of its library and of its programs.
#[derive(Debug, Default)]
pub struct Source {
    pub modules: Vec<Module>,
    /// The files of test code, or the folders that hold only such.
    pub test_code: BTreeSet<PathBuf>,
    /// The library under the name that its programs use, if there is one.
    library: Option<(String, ModuleId)>,
}

impl Source {
    /// Reads the library of a crate and all files that it declares.
    pub fn add_library(&mut self, name: &str, root: &Path) {
        let id = self.add_root("lib", root);
        self.library = Some((name.to_owned(), id));
    }

    /// Reads a program and all files that it declares. `name` is that of its root in the picture.
    pub fn add_program(&mut self, name: &str, root: &Path) {
        self.add_root(name, root);
    }

    fn add_root(&mut self, name: &str, root: &Path) -> ModuleId {
        let id = self.add_module(vec![name.to_owned()], root.to_owned(), None, None);
        let folder = root.parent().expect("a file is in a folder");
        self.read_file(id, folder);
        id
    }

    fn add_module(
        &mut self,
        path: Vec<String>,
        file: PathBuf,
        parent: Option<ModuleId>,
        file_module: Option<ModuleId>,
    ) -> ModuleId {
        let id = self.modules.len();
        self.modules.push(Module {
            path,
            file_module: file_module.unwrap_or(id),
            file,
            parent,
            children: BTreeMap::new(),
            items: BTreeSet::new(),
            imports: Vec::new(),
            mentions: Vec::new(),
        });
        id
    }

    /// Reads the file of a module. `folder` is where the files of its children are.
    fn read_file(&mut self, id: ModuleId, folder: &Path) {
        let file = self.modules[id].file.clone();
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let syntax = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.read_items(id, &syntax.items, folder);
    }

    fn read_items(&mut self, id: ModuleId, items: &[Item], folder: &Path) {
        let mut reader = ModuleReader::default();
        for item in items {
            reader.visit_item(item);
        }
        let module = &mut self.modules[id];
        module.imports = reader.imports;
        module.mentions = reader.mentions;
        module.items = items.iter().filter_map(item_name).collect();
        for item in items {
            let Item::Mod(child) = item else { continue };
            if is_test_code(&child.attrs) {
                let name = plain_name(&child.ident);
                self.test_code.extend([folder.join(format!("{name}.rs")), folder.join(name)]);
            } else {
                self.read_child(id, child, folder);
            }
        }
    }

    fn read_child(&mut self, parent: ModuleId, item: &ItemMod, folder: &Path) {
        let name = plain_name(&item.ident);
        let mut path = self.modules[parent].path.clone();
        path.push(name.clone());
        let child_folder = folder.join(&name);
        let child = if let Some((_, items)) = &item.content {
            let file = self.modules[parent].file.clone();
            let file_module = self.modules[parent].file_module;
            let child = self.add_module(path, file, Some(parent), Some(file_module));
            self.read_items(child, items, &child_folder);
            child
        } else {
            let own_folder = child_folder.join("mod.rs");
            let file = if own_folder.is_file() { own_folder } else { folder.join(format!("{name}.rs")) };
            let child = self.add_module(path, file, Some(parent), None);
            self.read_file(child, &child_folder);
            child
        };
        self.modules[parent].children.insert(name, child);
    }

    /// Which file uses which, each pair once.
    pub fn arrows(&self) -> Vec<Arrow> {
        let mut first_lines = BTreeMap::new();
        for (id, module) in self.modules.iter().enumerate() {
            let from = module.file_module;
            for mention in &module.mentions {
                // A module that is only imported is not used yet.
                let Some(Named::Item(target)) = self.resolve(id, &mention.segments, &mut Visited::new()) else {
                    continue;
                };
                let to = self.modules[target].file_module;
                if from != to {
                    let line = first_lines.entry((from, to)).or_insert(mention.line);
                    *line = mention.line.min(*line);
                }
            }
        }
        first_lines.into_iter().map(|((from, to), line)| Arrow { from, to, line }).collect()
    }

    /// Resolves a path inside a module. Returns none if it belongs to another crate.
    fn resolve(&self, from: ModuleId, segments: &[String], visited: &mut Visited) -> Option<Named> {
        let (first, rest) = segments.split_first()?;
        match first.as_str() {
            "crate" => self.walk(self.root_of(from), rest, visited),
            "self" => self.walk(from, rest, visited),
            "super" => self.walk(self.modules[from].parent?, rest, visited),
            name => match &self.library {
                Some((library, id)) if name == library && self.root_of(from) != *id => self.walk(*id, rest, visited),
                _ => self.find(from, name, rest, visited),
            },
        }
    }

    /// Resolves the remaining segments of a path from a module.
    fn walk(&self, at: ModuleId, segments: &[String], visited: &mut Visited) -> Option<Named> {
        match segments.split_first() {
            None => Some(Named::Module(at)),
            Some((first, rest)) if first == "super" => self.walk(self.modules[at].parent?, rest, visited),
            Some((first, rest)) if first == "self" => self.walk(at, rest, visited),
            Some((first, rest)) => self.find(at, first, rest, visited),
        }
    }

    /// Looks a name up in a module: in its children, its items and its imports.
    fn find(&self, at: ModuleId, name: &str, rest: &[String], visited: &mut Visited) -> Option<Named> {
        let module = &self.modules[at];
        if let Some(child) = module.children.get(name) {
            return self.walk(*child, rest, visited);
        }
        if module.items.contains(name) {
            return Some(Named::Item(at));
        }
        if !visited.insert((at, name.to_owned())) {
            return None;
        }
        for import in &module.imports {
            // `use name;` imports another crate under its own name.
            if import.name == name && import.segments != [name] {
                let segments: Vec<String> = import.segments.iter().chain(rest).cloned().collect();
                if let Some(found) = self.resolve(at, &segments, visited) {
                    return Some(found);
                }
            }
        }
        module.imports.iter().filter(|import| import.name == "*").find_map(|import| {
            match self.resolve(at, &import.segments, visited)? {
                Named::Module(target) if target != at => self.find(target, name, rest, visited),
                // `use Kind::*` imports the variants of an enum.
                Named::Module(_) | Named::Item(_) => None,
            }
        })
    }

    /// Reports whether `module` is inside `ancestor`, at any depth.
    pub fn is_ancestor(&self, ancestor: ModuleId, module: ModuleId) -> bool {
        let mut parent = self.modules[module].parent;
        while let Some(id) = parent {
            if id == ancestor {
                return true;
            }
            parent = self.modules[id].parent;
        }
        false
    }

    fn root_of(&self, mut id: ModuleId) -> ModuleId {
        while let Some(parent) = self.modules[id].parent {
            id = parent;
        }
        id
    }
}

impl Module {
    /// The room: the child of `src/` that this module is or belongs to, or the root itself.
    pub fn room(&self) -> &str {
        self.path.get(1).unwrap_or(&self.path[0])
    }

    /// Reports whether this is `lib.rs` or `main.rs`.
    pub fn is_root(&self) -> bool {
        self.parent.is_none()
    }

    /// The path in messages.
    pub fn shown(&self) -> String {
        let names = if self.path.len() > 1 { &self.path[1..] } else { &self.path[..] };
        names.join("::")
    }
}

/// Collects the imports and the paths of one module, and leaves its child modules out.
#[derive(Debug, Default)]
struct ModuleReader {
    imports: Vec<Import>,
    mentions: Vec<Mention>,
}

impl ModuleReader {
    fn mention(&mut self, segments: Vec<String>, line: usize) {
        self.mentions.push(Mention { segments, line });
    }

    /// Adds what a `use` imports. A re-export is not a use: a file that uses the name points at the file that defines it.
    fn import(&mut self, tree: &UseTree, before: &[String], is_reexport: bool) {
        match tree {
            UseTree::Path(path) => {
                let segments = with(before, plain_name(&path.ident));
                self.import(&path.tree, &segments, is_reexport);
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.import(tree, before, is_reexport);
                }
            }
            UseTree::Name(name) => {
                let name_text = plain_name(&name.ident);
                // `use a::{self}` imports `a`.
                let segments = if name_text == "self" { before.to_vec() } else { with(before, name_text) };
                let imported = segments.last().cloned().unwrap_or_default();
                self.import_as(imported, segments, is_reexport, name.ident.span().start().line);
            }
            UseTree::Rename(rename) => {
                let segments = with(before, plain_name(&rename.ident));
                let line = rename.ident.span().start().line;
                self.import_as(plain_name(&rename.rename), segments, is_reexport, line);
            }
            UseTree::Glob(glob) => {
                let line = glob.star_token.span().start().line;
                self.import_as("*".to_owned(), before.to_vec(), is_reexport, line);
            }
        }
    }

    fn import_as(&mut self, name: String, segments: Vec<String>, is_reexport: bool, line: usize) {
        if !is_reexport {
            self.mention(segments.clone(), line);
        }
        self.imports.push(Import { name, segments });
    }

    /// Finds the paths among the tokens of a macro call, which `syn` does not parse.
    fn read_tokens(&mut self, tokens: TokenStream) {
        let mut path = Vec::new();
        let mut line = 0;
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.end_token_path(&mut path, line);
                        line = ident.span().start().line;
                    }
                    path.push(plain_name(&ident));
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.end_token_path(&mut path, line);
                    colons = 0;
                    self.read_tokens(group.stream());
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {
                    self.end_token_path(&mut path, line);
                    colons = 0;
                }
            }
        }
        self.end_token_path(&mut path, line);
    }

    /// A single name in a macro may be a field or a key, so that only paths of two names and more count.
    fn end_token_path(&mut self, path: &mut Vec<String>, line: usize) {
        let segments = std::mem::take(path);
        if segments.len() > 1 {
            self.mention(segments, line);
        }
    }
}

impl<'ast> Visit<'ast> for ModuleReader {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = attributes_of(item);
        if !attributes.is_some_and(is_test_code) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, _: &'ast ItemMod) {}

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let is_reexport = !matches!(item.vis, Visibility::Inherited);
        let before = if item.leading_colon.is_some() { vec![String::new()] } else { Vec::new() };
        self.import(&item.tree, &before, is_reexport);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            let segments = path.segments.iter().map(|segment| plain_name(&segment.ident)).collect();
            self.mention(segments, path.span().start().line);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.read_tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }

    /// The body of `macro_rules!` is a pattern; what it names is used where it is called.
    fn visit_item_macro(&mut self, item: &'ast ItemMacro) {
        if item.ident.is_none() {
            visit::visit_item_macro(self, item);
        }
    }
}

fn with(before: &[String], name: String) -> Vec<String> {
    let mut segments = before.to_vec();
    segments.push(name);
    segments
}

/// A name without the `r#` of a raw one.
fn plain_name(ident: &proc_macro2::Ident) -> String {
    let text = ident.to_string();
    text.strip_prefix("r#").map(ToOwned::to_owned).unwrap_or(text)
}

/// Reports whether the item is compiled for tests only.
fn is_test_code(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        Meta::Path(_) | Meta::NameValue(_) => false,
    })
}

fn attributes_of(item: &Item) -> Option<&[Attribute]> {
    let attributes = match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => return None,
    };
    Some(attributes)
}

/// The name that an item defines in its module.
fn item_name(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        _ => return None,
    };
    Some(plain_name(name))
}
