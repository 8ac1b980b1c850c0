// Made by `cargo xtask codegen kafka`; not to be edited.

//! `ListTransactionsRequest`, versions 0-2.

use crate::codec::*;

#[derive(Clone, Debug, PartialEq)]
pub struct ListTransactionsRequest {
    pub state_filters: Vec<String>,
    pub producer_id_filters: Vec<i64>,
    /// versions 1+, default -1
    pub duration_filter: i64,
    /// versions 2+
    pub transactional_id_pattern: Option<String>,
}

impl Default for ListTransactionsRequest {
    fn default() -> Self {
        Self {
            state_filters: Vec::new(),
            producer_id_filters: Vec::new(),
            duration_filter: -1,
            transactional_id_pattern: None,
        }
    }
}

impl Wire for ListTransactionsRequest {
    const MIN_SIZE: usize = 3;

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut m = Self::default();
        m.state_filters = r.array(true, 1, |r| r.string(true))?;
        m.producer_id_filters = r.array(true, 8, |r| r.i64())?;
        if version >= 1 {
            m.duration_filter = r.i64()?;
        }
        if version >= 2 {
            m.transactional_id_pattern = r.nullable_string(true)?;
        }
        r.skip_tags()?;
        Ok(m)
    }

    fn encode(&self, w: &mut Encoder, version: i16) {
        w.array(true, &self.state_filters, |w, x| w.string(true, x));
        w.array(true, &self.producer_id_filters, |w, x| w.i64(*x));
        if version >= 1 {
            w.i64(self.duration_filter);
        }
        if version >= 2 {
            w.nullable_string(true, self.transactional_id_pattern.as_deref());
        }
        w.no_tags();
    }
}

impl Message for ListTransactionsRequest {
    const NAME: &'static str = "ListTransactionsRequest";
    const KEY: i16 = 66;
    const VERSIONS: (i16, i16) = (0, 2);
    const FLEXIBLE_FROM: i16 = 0;
}
