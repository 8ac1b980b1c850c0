//! Messages as JSON and back, by their descriptors.

use std::sync::OnceLock;

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, MethodDescriptor, SerializeOptions};
use serde_json::{Value, json};
use tonic::Status;

use super::explain::explain;

/// Before each message of gRPC: a flag and the length.
pub(super) const FRAME_HEAD_BYTES: usize = 5;

/// The descriptors, read when the first request of the gateway or of reflection comes.
pub(in crate::door) fn pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| {
        // Written by our own generator and read by a test.
        DescriptorPool::decode(etcd_wire::DESCRIPTORS).expect("the generated descriptors are descriptors")
    })
}

/// A method that is called.
#[derive(Debug, Clone)]
pub(super) struct Call {
    method: MethodDescriptor,
}

impl Call {
    pub(super) fn new(service: &str, name: &str) -> Option<Self> {
        let service = pool().get_service_by_name(service)?;
        let method = service.methods().find(|method| method.name() == name)?;
        Some(Self { method })
    }

    pub(super) fn streams_in(&self) -> bool {
        self.method.is_client_streaming()
    }

    pub(super) fn streams_out(&self) -> bool {
        self.method.is_server_streaming()
    }

    pub(super) fn uri(&self) -> http::Uri {
        let path = format!("/{}/{}", self.method.parent_service().full_name(), self.method.name());
        // Names of methods are identifiers.
        path.parse().unwrap_or_default()
    }

    /// The first JSON value of a body as a frame; an empty body is an empty message.
    pub(super) fn frame_first(&self, json: &[u8]) -> Result<Bytes, Status> {
        let mut values = serde_json::Deserializer::from_slice(json);
        if json.iter().all(u8::is_ascii_whitespace) {
            return Ok(frame(&DynamicMessage::new(self.method.input())));
        }
        if let Some(text) = explain(json, &self.method.input()) {
            return Err(Status::invalid_argument(text));
        }
        self.frame_from(&mut values)
    }

    fn frame_from<'de, R: serde_json::de::Read<'de>>(
        &self,
        values: &mut serde_json::Deserializer<R>,
    ) -> Result<Bytes, Status> {
        let options = DeserializeOptions::new().deny_unknown_fields(false);
        let message = DynamicMessage::deserialize_with_options(self.method.input(), values, &options);
        Ok(frame(&message.map_err(|error| unreadable(&error))?))
    }

    /// A message of the answer as JSON.
    pub(super) fn to_json(&self, message: &[u8]) -> Result<Bytes, Status> {
        let undecodable = |error: &dyn std::fmt::Display| Status::internal(error.to_string());
        let message = DynamicMessage::decode(self.method.output(), message).map_err(|e| undecodable(&e))?;
        let options = SerializeOptions::new()
            .use_proto_field_name(true)
            .skip_default_fields(true)
            .stringify_64_bit_integers(true);
        let mut out = Vec::new();
        let mut serializer = serde_json::Serializer::new(&mut out);
        message.serialize_with_options(&mut serializer, &options).map_err(|e| undecodable(&e))?;
        Ok(out.into())
    }

    /// A message of a stream as a line.
    pub(super) fn to_line(&self, message: &[u8]) -> Result<Bytes, Status> {
        let json = self.to_json(message)?;
        Ok([br#"{"result":"#, &json[..], b"}\n"].concat().into())
    }
}

/// What [`explain`] does not know.
fn unreadable(error: &serde_json::Error) -> Status {
    Status::invalid_argument(format!("proto: {error}"))
}

fn frame(message: &DynamicMessage) -> Bytes {
    let len = message.encoded_len();
    let mut out = BytesMut::with_capacity(FRAME_HEAD_BYTES + len);
    out.put_u8(0);
    // Requests of the gateway are bounded far below 4 GiB.
    out.put_u32(len as u32);
    // A BytesMut grows as it must.
    message.encode(&mut out).expect("a buffer that grows has room");
    out.freeze()
}

/// A refusal as JSON (`google.rpc.Status`; etcd attaches no details).
pub(super) fn status(status: &Status) -> Value {
    json!({ "code": i32::from(status.code()), "message": status.message() })
}

/// A refusal in a stream.
pub(super) fn error_line(refusal: &Status) -> Bytes {
    format!("{}\n", json!({ "error": status(refusal) })).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_has_its_method() {
        for (path, service, name) in etcd_wire::ROUTES {
            assert!(Call::new(service, name).is_some(), "{path}");
        }
    }

    /// JSON in, the same message out as JSON in the form of answers.
    fn check(service: &str, name: &str, json: &str, expect: &str) {
        let call = Call::new(service, name).unwrap();
        let frame = call.frame_first(json.as_bytes()).unwrap();
        let message = DynamicMessage::decode(call.method.input(), &frame[FRAME_HEAD_BYTES..]).unwrap();
        let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(true);
        let mut out = Vec::new();
        message.serialize_with_options(&mut serde_json::Serializer::new(&mut out), &options).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expect, "{json}");
    }

    #[test]
    fn requests_are_read_in_all_their_forms() {
        let kv = "etcdserverpb.KV";
        check(kv, "Put", r#"{"key":"Zm9v","value":"YmFy"}"#, r#"{"key":"Zm9v","value":"YmFy"}"#);
        check(kv, "Put", "", "{}");
        check(
            kv,
            "Put",
            r#" {"key":"Zm8","lease":5,"unknown":[1,{}]} tail"#,
            r#"{"key":"Zm8=","lease":"5"}"#,
        );
        check(
            kv,
            "Put",
            r#"{"key":"_-8=","lease":"5","prevKv":true}"#,
            r#"{"key":"/+8=","lease":"5","prev_kv":true}"#,
        );
        let sorted = r#"{"key":"AA==","sort_order":"DESCEND","sort_target":2}"#;
        check(kv, "Range", sorted, r#"{"key":"AA==","sort_order":"DESCEND","sort_target":"CREATE"}"#);
        let txn = r#"{"compare":[{"key":"YQ==","target":"VERSION","version":"0"}],"success":[{"requestPut":{"key":"YQ=="}}]}"#;
        check(
            kv,
            "Txn",
            txn,
            r#"{"compare":[{"key":"YQ==","version":"0"}],"success":[{"request_put":{"key":"YQ=="}}]}"#,
        );
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let call = Call::new("etcdserverpb.KV", "Put").unwrap();
        for wrong in ["[", "{", r#"{"key":5}"#, r#"{"key":"!"}"#, r#"{"lease":"x"}"#, "7", r#"{"key":"Zm9v""#]
        {
            let status = call.frame_first(wrong.as_bytes()).unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument, "{wrong}");
        }
    }
}
