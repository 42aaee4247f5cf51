//! Objects in Kubernetes' protobuf, which kubectl 1.32 sends for `create configmap`, `create namespace` and the like.
//!
//! A schema of the fields that those commands set, and a reader that follows it. A field that is not in the schema and
//! not empty refuses the object: half an object is worse than none.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::failure::Failure;

/// The `Content-Type` of such a body.
pub(crate) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// Reads a body in Kubernetes' envelope.
pub(crate) fn object(body: &[u8]) -> Result<Value, Failure> {
    let envelope = body.strip_prefix(b"k8s\0").ok_or_else(malformed)?;
    let envelope = message(ENVELOPE, envelope)?;
    let text = |pointer| envelope.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let kind = text("/typeMeta/kind");
    let (_, schema) = KINDS.iter().find(|(known, _)| *known == kind).ok_or_else(|| not_read(kind))?;
    let raw = STANDARD.decode(text("/raw")).map_err(|_| malformed())?;
    let mut object = message(schema, &raw)?;
    if let Some(object) = object.as_object_mut() {
        object.insert("apiVersion".to_owned(), json!(text("/typeMeta/apiVersion")));
        object.insert("kind".to_owned(), json!(kind));
    }
    Ok(object)
}

/// The fields of a message: number, name, type.
type Schema = &'static [(u64, &'static str, Type)];

#[derive(Clone, Copy)]
enum Type {
    Text,
    Number,
    Boolean,
    Bytes,
    Texts,
    TextMap,
    BytesMap,
    Message(Schema),
    Messages(Schema),
}

enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl Wire<'_> {
    /// Whether nobody set the field: zero, no bytes, or a message of such fields.
    fn is_empty(&self, depth_max: u8) -> bool {
        match *self {
            Self::Number(number) => number == 0,
            Self::Bytes([]) => true,
            Self::Bytes(mut bytes) => {
                while !bytes.is_empty() && depth_max > 0 {
                    if !field(&mut bytes).is_ok_and(|(_, inner)| inner.is_empty(depth_max - 1)) {
                        return false;
                    }
                }
                bytes.is_empty()
            }
        }
    }
}

fn message(schema: Schema, mut bytes: &[u8]) -> Result<Value, Failure> {
    let mut fields = Map::new();
    while !bytes.is_empty() {
        let (number, wire) = field(&mut bytes)?;
        let Some((_, name, kind)) = schema.iter().find(|(known, ..)| *known == number) else {
            // Go writes every field that is not a pointer, and so also those that nobody set.
            if wire.is_empty(EMPTY_DEPTH_MAX) {
                continue;
            }
            return Err(not_read(&format!("field {number}")));
        };
        insert(&mut fields, name, *kind, &wire)?;
    }
    Ok(Value::Object(fields))
}

fn insert(fields: &mut Map<String, Value>, name: &str, kind: Type, wire: &Wire<'_>) -> Result<(), Failure> {
    let value = match (kind, wire) {
        (Type::Number, Wire::Number(number)) => json!(number.cast_signed()),
        (Type::Boolean, Wire::Number(number)) => json!(*number != 0),
        (Type::Text, Wire::Bytes([])) => return Ok(()),
        (Type::Text | Type::Texts, Wire::Bytes(bytes)) => json!(std::str::from_utf8(bytes).map_err(|_| malformed())?),
        (Type::Bytes, Wire::Bytes(bytes)) => json!(STANDARD.encode(bytes)),
        (Type::Message(_), Wire::Bytes([])) => return Ok(()),
        (Type::Message(schema) | Type::Messages(schema), Wire::Bytes(bytes)) => message(schema, bytes)?,
        (Type::TextMap, Wire::Bytes(bytes)) => message(TEXT_ENTRY, bytes)?,
        (Type::BytesMap, Wire::Bytes(bytes)) => message(BYTES_ENTRY, bytes)?,
        _ => return Err(malformed()),
    };
    match kind {
        Type::Texts | Type::Messages(_) => {
            if let Some(list) = fields.entry(name).or_insert_with(|| json!([])).as_array_mut() {
                list.push(value);
            }
        }
        Type::TextMap | Type::BytesMap => {
            let part = |part: &str| value.get(part).and_then(Value::as_str).unwrap_or_default().to_owned();
            if let Some(map) = fields.entry(name).or_insert_with(|| json!({})).as_object_mut() {
                map.insert(part("key"), json!(part("value")));
            }
        }
        Type::Text | Type::Number | Type::Boolean | Type::Bytes | Type::Message(_) => {
            fields.insert(name.to_owned(), value);
        }
    }
    Ok(())
}

fn field<'a>(bytes: &mut &'a [u8]) -> Result<(u64, Wire<'a>), Failure> {
    let tag = varint(bytes)?;
    let wire = match tag & 7 {
        0 => Wire::Number(varint(bytes)?),
        2 => {
            let length = usize::try_from(varint(bytes)?).map_err(|_| malformed())?;
            let (value, rest) = bytes.split_at_checked(length).ok_or_else(malformed)?;
            *bytes = rest;
            Wire::Bytes(value)
        }
        _ => return Err(malformed()),
    };
    Ok((tag >> 3, wire))
}

fn varint(bytes: &mut &[u8]) -> Result<u64, Failure> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or_else(malformed)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(malformed())
}

fn malformed() -> Failure {
    Failure::bad_request("the request body is not an object in Kubernetes' protobuf")
}

fn not_read(what: &str) -> Failure {
    Failure::unsupported_media_type(format!(
        "the sample API server of `witgate demo` does not read `{what}` in protobuf: write the object to a file \
         (--dry-run=client -o yaml) and use kubectl apply"
    ))
}

/// Messages in one another that may turn out to be empty; the API types nest less deeply.
const EMPTY_DEPTH_MAX: u8 = 16;

const ENVELOPE: Schema = &[(1, "typeMeta", Type::Message(TYPE_META)), (2, "raw", Type::Bytes)];
const TYPE_META: Schema = &[(1, "apiVersion", Type::Text), (2, "kind", Type::Text)];
const TEXT_ENTRY: Schema = &[(1, "key", Type::Text), (2, "value", Type::Text)];
const BYTES_ENTRY: Schema = &[(1, "key", Type::Text), (2, "value", Type::Bytes)];

// Field numbers are those of the `generated.proto` files of k8s.io/api and k8s.io/apimachinery; they never change.
const OBJECT_META: Schema = &[
    (1, "name", Type::Text),
    (2, "generateName", Type::Text),
    (3, "namespace", Type::Text),
    (5, "uid", Type::Text),
    (6, "resourceVersion", Type::Text),
    (11, "labels", Type::TextMap),
    (12, "annotations", Type::TextMap),
    (14, "finalizers", Type::Texts),
];
const RESOURCE_ATTRIBUTES: Schema = &[
    (1, "namespace", Type::Text),
    (2, "verb", Type::Text),
    (3, "group", Type::Text),
    (4, "version", Type::Text),
    (5, "resource", Type::Text),
    (6, "subresource", Type::Text),
    (7, "name", Type::Text),
];
const CONTAINER: Schema = &[
    (1, "name", Type::Text),
    (2, "image", Type::Text),
    (3, "command", Type::Texts),
    (4, "args", Type::Texts),
    (
        6,
        "ports",
        Type::Messages(&[(1, "name", Type::Text), (3, "containerPort", Type::Number), (4, "protocol", Type::Text)]),
    ),
    (7, "env", Type::Messages(&[(1, "name", Type::Text), (2, "value", Type::Text)])),
];
const POD_TEMPLATE: Schema = &[
    (1, "metadata", Type::Message(OBJECT_META)),
    (2, "spec", Type::Message(&[(2, "containers", Type::Messages(CONTAINER)), (3, "restartPolicy", Type::Text)])),
];
const DEPLOYMENT: Schema = &[
    (1, "metadata", Type::Message(OBJECT_META)),
    (
        2,
        "spec",
        Type::Message(&[
            (1, "replicas", Type::Number),
            (2, "selector", Type::Message(&[(1, "matchLabels", Type::TextMap)])),
            (3, "template", Type::Message(POD_TEMPLATE)),
        ]),
    ),
];
const KINDS: [(&str, Schema); 6] = [
    (
        "ConfigMap",
        &[
            (1, "metadata", Type::Message(OBJECT_META)),
            (2, "data", Type::TextMap),
            (3, "binaryData", Type::BytesMap),
            (4, "immutable", Type::Boolean),
        ],
    ),
    ("Deployment", DEPLOYMENT),
    (
        "Namespace",
        &[(1, "metadata", Type::Message(OBJECT_META)), (2, "spec", Type::Message(&[(1, "finalizers", Type::Texts)]))],
    ),
    (
        "Secret",
        &[
            (1, "metadata", Type::Message(OBJECT_META)),
            (2, "data", Type::BytesMap),
            (3, "type", Type::Text),
            (5, "immutable", Type::Boolean),
        ],
    ),
    (
        "SelfSubjectAccessReview",
        &[
            (1, "metadata", Type::Message(OBJECT_META)),
            (
                2,
                "spec",
                Type::Message(&[
                    (1, "resourceAttributes", Type::Message(RESOURCE_ATTRIBUTES)),
                    (2, "nonResourceAttributes", Type::Message(&[(1, "path", Type::Text), (2, "verb", Type::Text)])),
                ]),
            ),
        ],
    ),
    ("SelfSubjectReview", &[(1, "metadata", Type::Message(OBJECT_META))]),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: an object reads whole or not at all. Method: bytes built by hand from the wire format, one row a case.
    #[test]
    fn an_object_reads_whole_or_not_at_all() {
        let entry = [bytes(1, b"key"), bytes(2, b"value")].concat();
        let metadata = [bytes(1, b"hello"), bytes(3, b""), bytes(8, b"")].concat();
        let config_map = [bytes(1, &metadata), bytes(2, &entry)].concat();
        let read = r#"{"metadata":{"name":"hello"},"data":{"key":"value"},"apiVersion":"v1","kind":"ConfigMap"}"#;
        check(&envelope("ConfigMap", &config_map), read);
        check(
            &envelope("ConfigMap", &[config_map.as_slice(), &[4 << 3, 1]].concat()),
            &read.replace(r#""apiVersion""#, r#""immutable":true,"apiVersion""#),
        );
        check(&envelope("ConfigMap", &[config_map.as_slice(), &bytes(9, b"x")].concat()), "415");
        check(&envelope("ConfigMap", &[config_map.as_slice(), &bytes(9, &bytes(1, &bytes(1, b"")))].concat()), read);
        let nested = (0..20).fold(Vec::new(), |inner, _| bytes(1, &inner));
        check(&envelope("ConfigMap", &[config_map.as_slice(), &bytes(9, &nested)].concat()), "415");
        check(&envelope("Lease", b""), "415");
        check(&envelope("ConfigMap", &[0x0a, 0x7f]), "400");
        check(&envelope("ConfigMap", &[0xff; 12]), "400");
        check(&envelope("ConfigMap", &[0x0b]), "400");
        check(b"{}", "400");
        check(b"k8s\0", "415");
    }

    #[track_caller]
    fn check(body: &[u8], expected: &str) {
        let got = object(body).map_or_else(|failure| failure.code().as_u16().to_string(), |object| object.to_string());
        assert_eq!(got, expected);
    }

    fn envelope(kind: &str, raw: &[u8]) -> Vec<u8> {
        let type_meta = [bytes(1, b"v1"), bytes(2, kind.as_bytes())].concat();
        [b"k8s\0".to_vec(), bytes(1, &type_meta), bytes(2, raw)].concat()
    }

    fn bytes(number: u8, value: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(value.len()).unwrap()], value].concat()
    }
}
