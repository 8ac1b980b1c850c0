//! gRPC server reflection, v1 and v1alpha (their messages are the same): what the services are, for `grpcurl` and its like.
//! etcd has none.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::{Stream, StreamExt as _};
use http::{Request, Response};
use prost_reflect::FileDescriptor;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService};
use tonic::{Code, Status, Streaming};
use tonic_prost::ProstCodec;

use super::gateway::pool;
use super::grpc::Answer;

/// Services besides those of the descriptors.
const OTHERS: [&str; 3] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];

#[derive(Clone, PartialEq, prost::Message)]
struct Asked {
    #[prost(string, tag = "1")]
    host: String,
    #[prost(oneof = "Question", tags = "3, 4, 5, 6, 7")]
    question: Option<Question>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Question {
    #[prost(string, tag = "3")]
    FileByFilename(String),
    #[prost(string, tag = "4")]
    FileContainingSymbol(String),
    #[prost(message, tag = "5")]
    FileContainingExtension(Extension),
    #[prost(string, tag = "6")]
    AllExtensionNumbersOfType(String),
    #[prost(string, tag = "7")]
    ListServices(String),
}

#[derive(Clone, PartialEq, prost::Message)]
struct Extension {
    #[prost(string, tag = "1")]
    containing_type: String,
    #[prost(int32, tag = "2")]
    extension_number: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Told {
    #[prost(string, tag = "1")]
    valid_host: String,
    #[prost(message, optional, tag = "2")]
    original_request: Option<Asked>,
    #[prost(oneof = "Found", tags = "4, 5, 6, 7")]
    found: Option<Found>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Found {
    #[prost(message, tag = "4")]
    Files(Files),
    #[prost(message, tag = "5")]
    Extensions(Extensions),
    #[prost(message, tag = "6")]
    Services(Services),
    #[prost(message, tag = "7")]
    Error(Refusal),
}

#[derive(Clone, PartialEq, prost::Message)]
struct Files {
    #[prost(bytes = "vec", repeated, tag = "1")]
    files: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Extensions {
    #[prost(string, tag = "1")]
    base_type_name: String,
    #[prost(int32, repeated, tag = "2")]
    numbers: Vec<i32>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Services {
    #[prost(message, repeated, tag = "1")]
    services: Vec<Named>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Refusal {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

fn answer(asked: Asked) -> Told {
    let found = match asked.question.as_ref() {
        Some(Question::FileByFilename(name)) => files(pool().get_file_by_name(name), name),
        Some(Question::FileContainingSymbol(symbol)) => files(file_of(symbol), symbol),
        Some(Question::FileContainingExtension(extension)) => {
            let message = pool().get_message_by_name(&extension.containing_type);
            let number = extension.extension_number.unsigned_abs();
            let found = message.and_then(|message| message.get_extension(number));
            files(found.map(|found| found.parent_file()), &extension.containing_type)
        }
        Some(Question::AllExtensionNumbersOfType(name)) => match pool().get_message_by_name(name) {
            Some(message) => Found::Extensions(Extensions {
                base_type_name: name.clone(),
                numbers: message.extensions().map(|found| found.number().cast_signed()).collect(),
            }),
            None => unknown(name),
        },
        Some(Question::ListServices(_)) => {
            let services = pool().services().map(|service| service.full_name().to_owned());
            let names: BTreeSet<String> = services.chain(OTHERS.map(str::to_owned)).collect();
            Found::Services(Services { services: names.into_iter().map(|name| Named { name }).collect() })
        }
        None => {
            let message = "the request asks nothing".to_owned();
            Found::Error(Refusal { code: Code::InvalidArgument.into(), message })
        }
    };
    Told { valid_host: asked.host.clone(), original_request: Some(asked), found: Some(found) }
}

fn unknown(name: &str) -> Found {
    Found::Error(Refusal { code: Code::NotFound.into(), message: format!("{name} is not known") })
}

/// The file that defines a service, a method, a message, a field, or a kind of value.
fn file_of(symbol: &str) -> Option<FileDescriptor> {
    let pool = pool();
    let direct = |name: &str| {
        let service = pool.get_service_by_name(name).map(|found| found.parent_file());
        let message = || pool.get_message_by_name(name).map(|found| found.parent_file());
        let kind = || pool.get_enum_by_name(name).map(|found| found.parent_file());
        service.or_else(message).or_else(kind)
    };
    direct(symbol).or_else(|| {
        let (parent, name) = symbol.rsplit_once('.')?;
        let method = |s: prost_reflect::ServiceDescriptor| s.methods().any(|method| method.name() == name);
        let service = pool.get_service_by_name(parent).is_some_and(method);
        let field = pool.get_message_by_name(parent).is_some_and(|m| m.get_field_by_name(name).is_some());
        if service || field { direct(parent) } else { None }
    })
}

/// A file and all that it imports, each once.
fn files(file: Option<FileDescriptor>, asked: &str) -> Found {
    let Some(file) = file else { return unknown(asked) };
    let (mut seen, mut files, mut next) = (BTreeSet::new(), Vec::new(), vec![file]);
    while let Some(file) = next.pop() {
        if seen.insert(file.name().to_owned()) {
            files.push(file.encode_to_vec());
            next.extend(file.dependencies());
        }
    }
    Found::Files(Files { files })
}

type Answers = Pin<Box<dyn Stream<Item = Result<Told, Status>> + Send>>;

async fn answers(request: tonic::Request<Streaming<Asked>>) -> Result<tonic::Response<Answers>, Status> {
    let answers = request.into_inner().map(|asked| asked.map(answer));
    Ok(tonic::Response::new(Box::pin(answers)))
}

fn serve(request: Request<Body>) -> Answer {
    if !request.uri().path().ends_with("/ServerReflectionInfo") {
        return Box::pin(async { Status::new(Code::Unimplemented, "").into_http() });
    }
    Box::pin(async move {
        let method = tower::service_fn(answers);
        Grpc::new(ProstCodec::<Told, Asked>::default()).streaming(method, request).await
    })
}

/// The service of one version.
macro_rules! version {
    ($type:ident, $name:literal) => {
        #[doc = concat!("`", $name, "`.")]
        #[derive(Clone)]
        pub(crate) struct $type;

        impl NamedService for $type {
            const NAME: &'static str = $name;
        }

        impl tower::Service<Request<Body>> for $type {
            type Response = Response<Body>;
            type Error = Infallible;
            type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: Request<Body>) -> Self::Future {
                let answer = serve(request);
                Box::pin(async move { Ok(answer.await) })
            }
        }
    };
}

version!(V1, "grpc.reflection.v1.ServerReflection");
version!(V1Alpha, "grpc.reflection.v1alpha.ServerReflection");

#[cfg(test)]
mod tests {
    use super::*;

    fn check(question: Question, expect: impl Fn(&Found) -> bool) {
        let told = answer(Asked { host: String::new(), question: Some(question.clone()) });
        assert!(told.found.as_ref().is_some_and(expect), "{question:?}: {:?}", told.found);
    }

    #[test]
    fn services_and_their_files_are_told() {
        check(Question::ListServices(String::new()), |found| match found {
            Found::Services(list) => ["etcdserverpb.KV", "v3lockpb.Lock", "grpc.health.v1.Health"]
                .iter()
                .all(|name| list.services.iter().any(|known| known.name == *name)),
            _ => false,
        });
        for symbol in
            ["etcdserverpb.KV", "etcdserverpb.KV.Put", "etcdserverpb.PutRequest.key", "mvccpb.KeyValue"]
        {
            check(Question::FileContainingSymbol(symbol.to_owned()), |found| {
                matches!(found, Found::Files(_))
            });
        }
        check(Question::FileContainingSymbol("none".to_owned()), |found| matches!(found, Found::Error(_)));
        check(Question::FileByFilename("none".to_owned()), |found| matches!(found, Found::Error(_)));
    }
}
