//! Records of `__consumer_offsets` replayed into a shard: a foreign or damaged log must be refused, not believed in
//! parts or crashed on.
#![no_main]

use bytes::Bytes;
use coordinators::{Options, Shard};
use libfuzzer_sys::fuzz_target;

/// How many deadlines are waited for; groups without an end are legal.
const DEADLINES_MAX: usize = 200;

fuzz_target!(|data: &[u8]| {
    let mut shard = Shard::new(Options::default(), 1);
    let mut rest = data;
    while let [key_len, value_len, after @ ..] = rest {
        let Some((key, after)) = after.split_at_checked(*key_len as usize) else { break };
        let Some((value, after)) = after.split_at_checked(*value_len as usize) else { break };
        let value = (*value_len > 0).then(|| Bytes::copy_from_slice(value));
        let _ = shard.replay(&Bytes::copy_from_slice(key), value.as_ref());
        rest = after;
    }
    shard.loaded(0);
    for _ in 0..DEADLINES_MAX {
        let Some(at) = shard.next_deadline() else { break };
        for write in shard.poll(at).writes {
            shard.complete(at, write.id, Ok(()));
        }
    }
    assert!(shard.list(&[], &[]).is_sorted_by_key(|group| group.group_id.clone()));
});
