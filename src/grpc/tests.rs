use super::client::{ConnectError, connect};
use super::server::{ServeError, peer, serve};
use super::{MAX_MESSAGE, Peer};
use crate::wire::v1;
use crate::wire::v1::wrapper_service_server::{SERVICE_NAME, WrapperService, WrapperServiceServer};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

/// Answers with the caller's process id; never to a ping.
struct Echo;

#[tonic::async_trait]
impl WrapperService for Echo {
    type PingStream = tokio_stream::Pending<Result<v1::PingResponse, Status>>;

    async fn ping(&self, _: Request<Streaming<v1::PingRequest>>) -> Result<Response<Self::PingStream>, Status> {
        std::future::pending().await
    }

    async fn ticks(&self, request: Request<v1::TicksRequest>) -> Result<Response<v1::TicksResponse>, Status> {
        Ok(Response::new(v1::TicksResponse { begun: peer(&request)?.pid.into(), ..Default::default() }))
    }
}

fn echo() -> Routes {
    Routes::new(WrapperServiceServer::new(Echo).max_decoding_message_size(MAX_MESSAGE))
}

fn me() -> Peer {
    Peer { uid: rustix::process::getuid().as_raw(), pid: std::process::id() }
}

async fn asked(path: &Path) -> u64 {
    let connection = connect(path).await.unwrap();
    let mut client = v1::wrapper_service_client::WrapperServiceClient::new(connection.channel);
    client.ticks(v1::TicksRequest {}).await.unwrap().into_inner().begun
}

#[tokio::test]
async fn both_ends_know_each_others_process_from_the_kernel() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/er/wrap.sock");
    let server = serve(&path, 0o660, &[SERVICE_NAME], echo()).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    assert_eq!(connect(&path).await.unwrap().peer, me());
    assert_eq!(asked(&path).await, u64::from(me().pid));
    server.stop().await;
    assert!(!path.exists(), "a stopped server leaves no socket");
    assert!(matches!(connect(&path).await, Err(ConnectError::Absent { .. })));
}

#[tokio::test]
async fn a_socket_in_use_is_never_taken_over_and_a_stale_one_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wrap.sock");
    let server = serve(&path, 0o600, &[SERVICE_NAME], echo()).unwrap();
    let error = serve(&path, 0o600, &[SERVICE_NAME], echo()).unwrap_err();
    assert!(matches!(error, ServeError::InUse { pid: Some(pid), .. } if pid == me().pid), "{error}");
    assert_eq!(asked(&path).await, u64::from(me().pid), "the first still serves");
    server.stop().await;

    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "left behind as by a dead process");
    let server = serve(&path, 0o600, &[SERVICE_NAME], echo()).unwrap();
    assert_eq!(asked(&path).await, u64::from(me().pid));
    server.stop().await;

    std::fs::write(&path, "a file of somebody's").unwrap();
    assert!(matches!(serve(&path, 0o600, &[SERVICE_NAME], echo()), Err(ServeError::NotASocket { .. })));
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_is_named_as_such() {
    let path = Path::new("/tmp").join("x".repeat(200));
    let error = serve(&path, 0o600, &[], echo()).unwrap_err();
    assert!(matches!(error, ServeError::PathTooLong { len: 205, .. }), "{error}");
    assert!(matches!(connect(&path).await, Err(ConnectError::PathTooLong { len: 205, .. })));
}

#[tokio::test]
async fn a_connection_breaks_for_good_when_its_process_goes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wrap.sock");
    let server = serve(&path, 0o600, &[SERVICE_NAME], echo()).unwrap();
    let connection = connect(&path).await.unwrap();
    let mut client = v1::wrapper_service_client::WrapperServiceClient::new(connection.channel);
    client.ticks(v1::TicksRequest {}).await.unwrap();
    server.stop().await;
    let server = serve(&path, 0o600, &[SERVICE_NAME], echo()).unwrap();
    assert!(client.ticks(v1::TicksRequest {}).await.is_err(), "it must not reach another process unseen");
    assert!(client.ticks(v1::TicksRequest {}).await.is_err());
    server.stop().await;
}

#[tokio::test]
async fn health_is_served_on_every_socket_and_reflection_names_what_is_there() {
    use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wrap.sock");
    let server = serve(&path, 0o600, &[SERVICE_NAME], echo()).unwrap();
    let channel = connect(&path).await.unwrap().channel;
    for service in ["", SERVICE_NAME] {
        let request = HealthCheckRequest { service: service.into() };
        let status = HealthClient::new(channel.clone()).check(request).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{service:?}");
    }
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = ServerReflectionClient::new(channel)
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap()
        .into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(list)) = answer else { panic!("{answer:?}") };
    let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    names.sort();
    names.retain(|name| !name.starts_with("grpc.reflection"));
    assert_eq!(names, ["grpc.health.v1.Health", SERVICE_NAME]);
    server.stop().await;
}

#[tokio::test]
async fn a_message_beyond_the_limit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wrap.sock");
    let server = serve(&path, 0o600, &[SERVICE_NAME], echo()).unwrap();
    let channel = connect(&path).await.unwrap().channel;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let message = v1::Hello { persona: "x".repeat(MAX_MESSAGE + 1) };
    let path_and_query = "/zeta.bft.v1.WrapperService/Ticks".parse().unwrap();
    let codec = tonic_prost::ProstCodec::<v1::Hello, v1::TicksResponse>::default();
    let status = client.unary(Request::new(message), path_and_query, codec).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::OutOfRange, "{status}");
    server.stop().await;
}

#[tokio::test]
async fn an_answer_that_never_begins_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wrap.sock");
    let server = serve(&path, 0o600, &[SERVICE_NAME], echo()).unwrap();
    let channel = connect(&path).await.unwrap().channel;
    let mut client = v1::wrapper_service_client::WrapperServiceClient::new(channel);
    let mut request = Request::new(tokio_stream::pending());
    request.set_timeout(Duration::from_millis(50));
    assert!(client.ping(request).await.is_err());
    server.stop().await;
}
