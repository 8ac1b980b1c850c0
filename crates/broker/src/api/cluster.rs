//! DescribeCluster.

use kafka_wire::ErrorCode;
use kafka_wire::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_wire::messages::{DescribeClusterRequest, DescribeClusterResponse};

use super::Connection;
use super::metadata::CLUSTER_OPERATIONS;

/// Asks for brokers.
const BROKERS: i8 = 1;
/// Asks for controllers, which have no listener here.
const CONTROLLERS: i8 = 2;

/// Answers DescribeCluster (KIP-700, KIP-919).
pub(crate) fn describe(c: &Connection, request: &DescribeClusterRequest) -> DescribeClusterResponse {
    if !matches!(request.endpoint_type, BROKERS | CONTROLLERS) {
        return DescribeClusterResponse {
            error_code: ErrorCode::UnsupportedEndpointType.code(),
            error_message: Some(format!("Unsupported endpoint type {}", request.endpoint_type)),
            ..Default::default()
        };
    }
    if request.endpoint_type == CONTROLLERS {
        return DescribeClusterResponse {
            error_code: ErrorCode::MismatchedEndpointType.code(),
            error_message: Some("The request was sent to an endpoint of the wrong type.".to_owned()),
            endpoint_type: request.endpoint_type,
            ..Default::default()
        };
    }
    let (host, port) = c.endpoint();
    DescribeClusterResponse {
        cluster_id: c.broker.cluster_id.clone(),
        controller_id: c.broker.broker_id,
        cluster_authorized_operations: match request.include_cluster_authorized_operations {
            true => CLUSTER_OPERATIONS,
            false => i32::MIN,
        },
        brokers: vec![DescribeClusterBroker {
            broker_id: c.broker.broker_id,
            host,
            port,
            rack: None,
            is_fenced: false,
        }],
        ..Default::default()
    }
}
