//! Decoders of this room for the fuzzers, which see public functions alone.

/// What a client pushes as telemetry: how many points it holds.
#[must_use]
pub fn telemetry(bytes: &[u8]) -> Option<usize> {
    crate::otlp::decode(bytes).map(|points| points.len())
}

/// The values of a metadata log's records: whether they are believed.
#[must_use]
pub fn metadata(values: &[bytes::Bytes]) -> bool {
    crate::exchange::is_readable(values)
}
