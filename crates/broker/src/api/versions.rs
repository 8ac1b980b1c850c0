//! ApiVersions: what is served, and the cluster's features (KIP-511, KIP-584).

use kafka_wire::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use kafka_wire::messages::{ApiVersionsRequest, ApiVersionsResponse};
use kafka_wire::{ApiKey, ErrorCode};

use super::{Connection, SERVED};
use crate::features::{self, FEATURES, Feature};

/// The first version whose clients read features that may be at 0.
const ZERO_FROM: i16 = 4;

/// Answers ApiVersions.
pub(crate) fn handle(c: &Connection, request: ApiVersionsRequest, version: i16) -> ApiVersionsResponse {
    let named = is_name(&request.client_software_name) && is_name(&request.client_software_version);
    if version >= 3 && !named {
        return ApiVersionsResponse { error_code: ErrorCode::InvalidRequest.code(), ..Default::default() };
    }
    if version >= 3 {
        *c.software.lock() = Some((request.client_software_name, request.client_software_version));
    }
    let supported = |feature: &Feature| SupportedFeatureKey {
        name: feature.name.to_owned(),
        min_version: feature.least,
        max_version: feature.most,
    };
    let (set, finalized_features_epoch) = c.broker.features.set_levels();
    // One at 0 is not in force.
    let finalized = |feature: &Feature| {
        let level = features::level(&set, feature);
        let name = feature.name.to_owned();
        (level > 0).then_some(FinalizedFeatureKey {
            name,
            max_version_level: level,
            min_version_level: level,
        })
    };
    ApiVersionsResponse {
        api_keys: SERVED.iter().map(|key| range(*key)).collect(),
        supported_features: FEATURES
            .iter()
            .filter(|feature| version >= ZERO_FROM || feature.least > 0)
            .map(supported)
            .collect(),
        finalized_features_epoch,
        finalized_features: FEATURES.iter().filter_map(finalized).collect(),
        ..Default::default()
    }
}

/// The answer to a version nobody knows: the range that is, in version 0.
pub(crate) fn unsupported() -> ApiVersionsResponse {
    let error_code = ErrorCode::UnsupportedVersion.code();
    ApiVersionsResponse { error_code, api_keys: vec![range(ApiKey::ApiVersions)], ..Default::default() }
}

fn range(key: ApiKey) -> ApiVersion {
    let versions = key.versions();
    // librdkafka takes a missing version 0 of Produce for a broker without compression (ApiKeys.java, KAFKA-18659).
    let min_version = if key == ApiKey::Produce { 0 } else { versions.min };
    ApiVersion { api_key: key.number(), min_version, max_version: versions.stable_max }
}

/// `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`
fn is_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    name.chars().all(inner) && edge(name.chars().next()) && edge(name.chars().last())
}

#[cfg(test)]
mod tests {
    #[test]
    fn software_names() {
        for (name, good) in
            [("librdkafka", true), ("a-b.1", true), ("a", true), ("", false), ("-a", false), ("a b", false)]
        {
            assert_eq!(super::is_name(name), good, "{name:?}");
        }
    }
}
