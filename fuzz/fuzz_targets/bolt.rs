//! bbolt files: a snapshot given to `ketch snapshot restore` comes from a stranger.
#![no_main]

use std::ops::ControlFlow;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(reader) = bolt::Reader::open(bytes) else { return };
    let _ = reader.check();
    let mut buckets = vec![reader.root()];
    // Buckets in buckets are bounded by the caller, as the store does (it reads one level).
    for _ in 0..64 {
        let Some(bucket) = buckets.pop() else { break };
        let _ = reader.each(&bucket, &mut |_, value| {
            if let bolt::Value::Bucket(inner) = value {
                buckets.push(inner);
            }
            Ok::<_, bolt::Error>(ControlFlow::Continue(()))
        });
    }
});
