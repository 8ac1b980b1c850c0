//! What is known about every type: field names, types, list and merge facts.
//!
//! One table for all kinds. The built-in one is `schema/table.txt`, generated from the OpenAPI document of
//! Kubernetes 1.36 by `cargo xtask codegen kube` and parsed once; a custom kind makes its own [`Schema`].
//! Decoding, defaulting, strategic merge, server-side apply and OpenAPI all read it.
//!
//! The table's lines:
//!
//! ```text
//! = io.k8s.api.apps.v1.Deployment [atomic] [kind=apps/v1/Deployment]      a type; its fields follow
//! replicas int32 [required] [list=map keys=a,b] [patch=merge merge=a] [map=atomic] [default=x]
//! ```
//!
//! A shape is a scalar word, `#type`, `[shape` (list) or `{shape` (map from text).

use crate::registry::GroupVersionKind;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

const TABLE: &str = include_str!("schema/table.txt");

/// Text of the generated table or of a custom kind's schema.
type Text = Cow<'static, str>;

/// A type's number in its [`Schema`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TypeId(pub u32);

/// The shape of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    String,
    /// A whole number of 32 bits.
    Int32,
    /// A whole number of 64 bits.
    Int64,
    Double,
    Bool,
    /// Base64 in a string.
    Bytes,
    /// `resource.Quantity`: a string, on input also a number.
    Quantity,
    /// `intstr.IntOrString`.
    IntOrString,
    /// RFC 3339 in whole seconds.
    Time,
    /// RFC 3339 with six decimals.
    MicroTime,
    /// Anything: `RawExtension`, JSON, `FieldsV1`.
    Any,
    Object(TypeId),
    List(Box<Shape>),
    /// A map from text.
    Map(Box<Shape>),
}

/// How server-side apply sees a list (`x-kubernetes-list-type`); absent means atomic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    #[default]
    Atomic,
    Set,
    Map,
}

/// What is known about a field beside its shape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub list_type: ListType,
    /// The keys of a `ListType::Map`.
    pub map_keys: Vec<Text>,
    /// Strategic merge merges this list instead of replacing it.
    pub patch_merge: bool,
    /// Strategic merge drops the keys that the patch does not name (`retainKeys`).
    pub patch_retain_keys: bool,
    /// The key by which strategic merge finds an item; absent for lists of scalars.
    pub patch_merge_key: Option<Text>,
    /// Server-side apply owns this map as one.
    pub atomic_map: bool,
    /// What an absent key counts as in a list map.
    pub default: Option<Text>,
}

/// A field of an object type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: Text,
    pub shape: Shape,
    pub required: bool,
    pub facts: Facts,
}

/// An object type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeDef {
    /// The definition's name in OpenAPI: `io.k8s.api.apps.v1.Deployment`.
    pub name: Text,
    /// Sorted by name.
    pub fields: Vec<Field>,
    /// Server-side apply owns values of this type as one.
    pub atomic: bool,
    pub kinds: Vec<GroupVersionKind>,
}

impl TypeDef {
    /// The field of this exact name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        let at = self.fields.binary_search_by(|field| field.name.as_ref().cmp(name)).ok()?;
        self.fields.get(at)
    }

    /// The Go type's name: the last word of the definition's name.
    pub fn short_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or(&self.name)
    }
}

/// A set of types that refer to each other.
#[derive(Debug, Default)]
pub struct Schema {
    types: Vec<TypeDef>,
    by_name: HashMap<Text, TypeId>,
    by_kind: HashMap<GroupVersionKind, TypeId>,
}

impl Schema {
    /// The types of Kubernetes 1.36.
    pub fn builtin() -> &'static Arc<Schema> {
        static BUILTIN: OnceLock<Arc<Schema>> = OnceLock::new();
        BUILTIN.get_or_init(|| Arc::new(parse(TABLE).expect("the generated table parses")))
    }

    /// The type with this number. Numbers are only made by this schema.
    pub fn get(&self, id: TypeId) -> &TypeDef {
        &self.types[id.0 as usize]
    }

    /// The type with this OpenAPI definition name.
    pub fn by_name(&self, name: &str) -> Option<TypeId> {
        self.by_name.get(name).copied()
    }

    /// The type that is this kind.
    pub fn by_kind(&self, kind: &GroupVersionKind) -> Option<TypeId> {
        self.by_kind.get(kind).copied()
    }

    /// Every type, in the table's order.
    pub fn types(&self) -> impl Iterator<Item = (TypeId, &TypeDef)> {
        (0u32..).map(TypeId).zip(&self.types)
    }
}

/// One type of a schema that is shared; cheap to clone.
#[derive(Clone, Debug)]
pub struct SchemaRef {
    schema: Arc<Schema>,
    root: Shape,
}

impl SchemaRef {
    /// The built-in type of a kind.
    pub fn builtin(kind: &GroupVersionKind) -> Option<SchemaRef> {
        let schema = Schema::builtin();
        schema.by_kind(kind).map(|id| SchemaRef { schema: schema.clone(), root: Shape::Object(id) })
    }

    /// The built-in type of this definition name.
    pub fn builtin_type(name: &str) -> Option<SchemaRef> {
        let schema = Schema::builtin();
        schema.by_name(name).map(|id| SchemaRef { schema: schema.clone(), root: Shape::Object(id) })
    }

    /// A schema that knows nothing: every value passes, lists are atomic.
    pub fn untyped() -> SchemaRef {
        static EMPTY: OnceLock<Arc<Schema>> = OnceLock::new();
        SchemaRef { schema: EMPTY.get_or_init(Arc::default).clone(), root: Shape::Any }
    }

    /// The place of the whole object.
    pub fn cursor(&self) -> Cursor<'_> {
        Cursor { schema: &self.schema, shape: &self.root, facts: no_facts() }
    }

    /// The definition, when the root is an object.
    pub fn type_def(&self) -> Option<&TypeDef> {
        self.cursor().type_def()
    }

    /// The schema the type lives in.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }
}

fn no_facts() -> &'static Facts {
    static NONE: OnceLock<Facts> = OnceLock::new();
    NONE.get_or_init(Facts::default)
}

/// A place in a schema while walking a value.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    schema: &'a Schema,
    pub shape: &'a Shape,
    /// The facts of the field that leads here; empty for items of lists and maps.
    pub facts: &'a Facts,
}

impl<'a> Cursor<'a> {
    /// The object type here, if this is one.
    pub fn type_def(self) -> Option<&'a TypeDef> {
        match self.shape {
            Shape::Object(id) => Some(self.schema.get(*id)),
            _ => None,
        }
    }

    /// The place of a field or of a map's value. Below `Any` everything is `Any`.
    pub fn child(self, name: &str) -> Option<Cursor<'a>> {
        match self.shape {
            Shape::Object(id) => {
                let field = self.schema.get(*id).field(name)?;
                Some(Cursor { schema: self.schema, shape: &field.shape, facts: &field.facts })
            }
            Shape::Map(item) => Some(Cursor { shape: item, facts: no_facts(), ..self }),
            Shape::Any => Some(Cursor { facts: no_facts(), ..self }),
            _ => None,
        }
    }

    /// The place of a list's items.
    pub fn item(self) -> Option<Cursor<'a>> {
        match self.shape {
            Shape::List(item) => Some(Cursor { shape: item, facts: no_facts(), ..self }),
            Shape::Any => Some(Cursor { facts: no_facts(), ..self }),
            _ => None,
        }
    }

    /// True when nothing at all is known about the object being walked.
    pub fn is_untyped(self) -> bool {
        self.schema.types.is_empty()
    }

    /// True when server-side apply owns the map or object here as one.
    pub fn is_atomic_map(self) -> bool {
        self.facts.atomic_map || self.type_def().is_some_and(|def| def.atomic)
    }
}

/// Parses a table; `Err` names the line.
fn parse(table: &'static str) -> Result<Schema, String> {
    let mut schema = Schema::default();
    let lines = || table.lines().filter(|line| !line.starts_with('#'));
    for line in lines().filter_map(|line| line.strip_prefix("= ")) {
        schema.add(line);
    }
    let mut current = 0;
    for line in lines() {
        if line.starts_with("= ") {
            current += 1;
            continue;
        }
        let field = parse_field(&schema, line).ok_or_else(|| format!("bad line {line:?}"))?;
        let def = schema.types.get_mut(current - 1).ok_or("a field before any type")?;
        def.fields.push(field);
    }
    Ok(schema)
}

impl Schema {
    fn add(&mut self, line: &'static str) {
        let id = TypeId(self.types.len() as u32);
        let mut words = line.split(' ');
        let name = Cow::Borrowed(words.next().unwrap_or(""));
        let mut def = TypeDef { name: name.clone(), fields: Vec::new(), atomic: false, kinds: Vec::new() };
        for word in words {
            match word.strip_prefix("kind=").map(|kind| kind.split('/').collect::<Vec<_>>()) {
                Some(parts) if parts.len() == 3 => {
                    def.kinds.push(GroupVersionKind::new(parts[0], parts[1], parts[2]))
                }
                _ => def.atomic |= word == "atomic",
            }
        }
        self.by_name.insert(name, id);
        for kind in &def.kinds {
            self.by_kind.insert(kind.clone(), id);
        }
        self.types.push(def);
    }
}

fn parse_field(schema: &Schema, line: &'static str) -> Option<Field> {
    let mut words = line.split(' ');
    let name = words.next()?;
    let shape = parse_shape(schema, words.next()?)?;
    let mut field = Field { name: name.into(), shape, required: false, facts: Facts::default() };
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match key {
            "required" => field.required = true,
            "list" => field.facts.list_type = parse_list(value)?,
            "keys" => field.facts.map_keys = value.split(',').map(Text::Borrowed).collect(),
            "patch" => {
                field.facts.patch_merge = value.split(',').any(|one| one == "merge");
                field.facts.patch_retain_keys = value.split(',').any(|one| one == "retainKeys");
            }
            "merge" => field.facts.patch_merge_key = Some(value.into()),
            "map" => field.facts.atomic_map = value == "atomic",
            "default" => field.facts.default = Some(value.into()),
            _ => return None,
        }
    }
    Some(field)
}

fn parse_list(word: &str) -> Option<ListType> {
    match word {
        "atomic" => Some(ListType::Atomic),
        "set" => Some(ListType::Set),
        "map" => Some(ListType::Map),
        _ => None,
    }
}

fn parse_shape(schema: &Schema, word: &str) -> Option<Shape> {
    if let Some(item) = word.strip_prefix('[') {
        return Some(Shape::List(Box::new(parse_shape(schema, item)?)));
    }
    if let Some(item) = word.strip_prefix('{') {
        return Some(Shape::Map(Box::new(parse_shape(schema, item)?)));
    }
    if let Some(name) = word.strip_prefix('#') {
        return schema.by_name(name).map(Shape::Object);
    }
    Some(match word {
        "string" => Shape::String,
        "int32" => Shape::Int32,
        "int64" => Shape::Int64,
        "double" => Shape::Double,
        "bool" => Shape::Bool,
        "bytes" => Shape::Bytes,
        "quantity" => Shape::Quantity,
        "intstr" => Shape::IntOrString,
        "time" => Shape::Time,
        "microtime" => Shape::MicroTime,
        "any" => Shape::Any,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_parses_fast_and_knows_deployments() {
        let start = std::time::Instant::now();
        let schema = parse(TABLE).unwrap();
        // Debug builds on a busy machine are slow; release takes a few milliseconds at most.
        assert!(start.elapsed().as_millis() < 500);
        assert!(schema.types.len() > 700);
        let deployment = SchemaRef::builtin(&GroupVersionKind::new("apps", "v1", "Deployment")).unwrap();
        let pod =
            ["spec", "template", "spec"].iter().fold(deployment.cursor(), |at, key| at.child(key).unwrap());
        assert_eq!(pod.type_def().unwrap().short_name(), "PodSpec");
        let containers = pod.child("containers").unwrap();
        assert_eq!(containers.facts.list_type, ListType::Map);
        assert_eq!(containers.facts.patch_merge_key.as_deref(), Some("name"));
        let ports = containers.item().unwrap().child("ports").unwrap();
        assert_eq!(ports.facts.map_keys, ["containerPort", "protocol"]);
        assert_eq!(ports.item().unwrap().child("protocol").unwrap().facts.default.as_deref(), Some("TCP"));
        let tolerations = pod.child("tolerations").unwrap();
        assert_eq!(tolerations.facts.list_type, ListType::Atomic);
    }

    #[test]
    fn fields_are_sorted() {
        for (_, def) in Schema::builtin().types() {
            assert!(def.fields.is_sorted_by(|a, b| a.name < b.name), "{}", def.name);
        }
    }
}
