//! Client telemetry: subscriptions, pushes, and what becomes of them.

use bytes::Bytes;
use kafka_wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_wire::messages::{
    ApiVersionsRequest, ApiVersionsResponse, GetTelemetrySubscriptionsRequest,
    GetTelemetrySubscriptionsResponse, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
    PushTelemetryRequest, PushTelemetryResponse,
};
use kafka_wire::record::Compression;
use kafka_wire::{ErrorCode, Uuid};

use crate::common::{Raw, Served, code, options};

async fn subscribe(raw: &mut Raw, name: &str, values: &[(&str, &str)]) {
    let change = |(name, value): &(&str, &str)| AlterableConfig {
        name: (*name).into(),
        config_operation: 0,
        value: Some((*value).into()),
    };
    let configs = values.iter().map(change).collect();
    let resource = AlterConfigsResource { resource_type: 16, resource_name: name.into(), configs };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    let response: IncrementalAlterConfigsResponse = raw.call(1, &request).await;
    assert_eq!(response.responses[0].error_code, 0);
}

fn nested(number: u8, body: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, body.len() as u8], body].concat()
}

/// One gauge as OTLP.
fn gauge(name: &str, value: f64) -> Vec<u8> {
    let point = [&[4 << 3 | 1][..], &value.to_bits().to_le_bytes()].concat();
    let metric = [nested(1, name.as_bytes()), nested(5, &nested(1, &point))].concat();
    nested(1, &nested(2, &nested(2, &metric)))
}

#[tokio::test]
async fn metrics_are_asked_for_pushed_and_exported() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.properties.insert("telemetry.max.bytes".into(), "1000".into());
    let served = Served::with(options, testkit::MemStore::shared()).await;
    let mut raw = served.raw().await;
    let versions = ApiVersionsRequest {
        client_software_name: "apache-kafka-java".into(),
        client_software_version: "4.3.1".into(),
    };
    let _: ApiVersionsResponse = raw.call(4, &versions).await;
    let ask = GetTelemetrySubscriptionsRequest::default();
    let none: GetTelemetrySubscriptionsResponse = raw.call(0, &ask).await;
    assert_eq!((none.error_code, none.requested_metrics.len(), none.push_interval_ms), (0, 0, 300_000));
    let java = [
        ("metrics", "org.apache.kafka.producer."),
        ("interval.ms", "100"),
        ("match", "client_software_name=.*java"),
    ];
    subscribe(&mut raw, "java", &java).await;
    subscribe(&mut raw, "others", &[("metrics", "*"), ("match", "client_id=nobody")]).await;
    let ask = GetTelemetrySubscriptionsRequest { client_instance_id: none.client_instance_id };
    let told: GetTelemetrySubscriptionsResponse = raw.call(0, &ask).await;
    assert_eq!(told.requested_metrics, ["org.apache.kafka.producer."]);
    assert_eq!((told.push_interval_ms, told.telemetry_max_bytes, told.delta_temporality), (100, 1000, true));
    assert_eq!(told.accepted_compression_types, [4, 3, 1, 2]);
    let again: GetTelemetrySubscriptionsResponse = raw.call(0, &ask).await;
    assert_eq!(code(again.error_code), ErrorCode::ThrottlingQuotaExceeded);
    let push = |plain: &[u8], codec: Compression, subscription_id| PushTelemetryRequest {
        client_instance_id: told.client_instance_id,
        subscription_id,
        terminating: false,
        compression_type: codec.number() as i8,
        metrics: Bytes::from(codec.compress(plain).unwrap()),
    };
    let payload = gauge("org.apache.kafka.producer.request.latency.avg", 2.5);
    let id = told.subscription_id;
    let wait = || tokio::time::sleep(std::time::Duration::from_millis(110));
    let send = async |raw: &mut Raw, request: PushTelemetryRequest| {
        let response: PushTelemetryResponse = raw.call(0, &request).await;
        code(response.error_code)
    };
    for codec in Compression::ALL {
        assert_eq!(send(&mut raw, push(&payload, codec, id)).await, ErrorCode::None, "{codec:?}");
        wait().await;
    }
    let text = served.handle.metrics();
    let line =
        text.lines().find(|line| line.starts_with("kafka_client_producer_request_latency_avg{")).unwrap();
    assert!(line.contains("client_id=\"test\"") && line.ends_with(" 2.5"), "{line}");
    assert_eq!(send(&mut raw, push(&payload, Compression::None, id)).await, ErrorCode::None);
    assert_eq!(
        send(&mut raw, push(&payload, Compression::None, id)).await,
        ErrorCode::ThrottlingQuotaExceeded
    );
    wait().await;
    assert_eq!(
        send(&mut raw, push(&payload, Compression::None, id ^ 1)).await,
        ErrorCode::UnknownSubscriptionId
    );
    wait().await;
    let unknown = PushTelemetryRequest { compression_type: 9, ..push(&payload, Compression::None, id) };
    assert_eq!(send(&mut raw, unknown).await, ErrorCode::UnsupportedCompressionType);
    wait().await;
    let large = push(&[0; 1001], Compression::None, id);
    assert_eq!(send(&mut raw, large).await, ErrorCode::TelemetryTooLarge);
    wait().await;
    let bomb = push(&[0; 100_000], Compression::Zstd, id);
    assert_eq!(send(&mut raw, bomb).await, ErrorCode::TelemetryTooLarge);
    wait().await;
    assert_eq!(send(&mut raw, push(&[7; 30], Compression::None, id)).await, ErrorCode::InvalidRecord);
    let nobody =
        PushTelemetryRequest { client_instance_id: Uuid::nil(), ..push(&payload, Compression::None, id) };
    assert_eq!(send(&mut raw, nobody).await, ErrorCode::InvalidRequest);
    // The last push may come early; nothing comes after it.
    let last = PushTelemetryRequest { terminating: true, ..push(&payload, Compression::None, id) };
    assert_eq!(send(&mut raw, last).await, ErrorCode::None);
    assert_eq!(send(&mut raw, push(&payload, Compression::None, id)).await, ErrorCode::InvalidRequest);
    served.stop().await;
}
