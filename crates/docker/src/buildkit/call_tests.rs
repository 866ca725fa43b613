//! Calls between a client and a BuildKit that are both this test.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use tokio::io::DuplexStream;

use super::*;

const BUFFER: usize = 1 << 16;
const SOON: std::time::Duration = std::time::Duration::from_secs(10);

/// Everything goes to the native machine.
struct Home;

#[async_trait::async_trait]
impl Builder for Home {
    type Guard = ();

    async fn admit(&self, _: &[String]) -> Result<Role, Refusal> {
        Ok(Role::Native)
    }

    async fn open(&self, _: Role) -> Result<Box<dyn ByteStream>, Refusal> {
        Err(Refusal::new(Code::Unavailable, "there is one machine only"))
    }

    fn place(&self, _: &str, _: Role) -> Option<()> {
        None
    }

    fn chooses(&self) -> bool {
        true
    }
}

/// Answers each call whole before its request has ended, and takes no more of that then, as gRPC's servers do.
async fn hasty(stream: DuplexStream) {
    let mut server = h2::server::handshake(stream).await.unwrap();
    while let Some(call) = server.accept().await {
        let (_request, mut respond) = call.unwrap();
        let mut down = respond.send_response(Response::new(()), false).unwrap();
        down.send_data(Bytes::from_static(b"answer"), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        // What is dropped in this state is reset behind its answer, without an error.
        down.send_trailers(trailers).unwrap();
    }
}

/// Spec 3.2: an answer that comes before its request has ended passes whole.
#[tokio::test]
async fn an_answer_that_comes_before_the_request_has_ended_passes_whole() {
    let ((client, face), (native, buildkit)) = (tokio::io::duplex(BUFFER), tokio::io::duplex(BUFFER));
    let other = tokio::spawn(hasty(buildkit));
    let served = tokio::spawn(async move { serve(face, native, &Home).await.unwrap() });
    let (send, connection) = h2::client::handshake(client).await.unwrap();
    let connection = tokio::spawn(connection);
    for round in 0..200 {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = "http://localhost/moby.buildkit.v1.frontend.LLBBridge/Ping".parse().unwrap();
        let (answer, mut up) = send.clone().ready().await.unwrap().send_request(request, false).unwrap();
        up.send_data(Bytes::from_static(&[0; 5]), false).unwrap();
        let answered = async {
            let (_, mut body) = answer.await?.into_parts();
            let mut bytes = Vec::new();
            while let Some(part) = body.data().await {
                bytes.extend_from_slice(&part?);
            }
            Ok::<_, h2::Error>((bytes, body.trailers().await?))
        };
        let (bytes, trailers) = tokio::time::timeout(SOON, answered).await.unwrap().unwrap_or_else(|error| {
            panic!("round {round}: {error}");
        });
        assert_eq!(bytes, b"answer");
        assert_eq!(trailers.unwrap()["grpc-status"], "0");
    }
    drop((send, connection));
    other.abort();
    served.abort();
}
