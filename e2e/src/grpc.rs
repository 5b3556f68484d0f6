//! A gRPC service and its client over tonic, without generated code: the four shapes of a call.

use std::pin::Pin;

use futures_util::{Stream, StreamExt, stream};
use http::{Request, Response, uri::PathAndQuery};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tonic::{
    Code, Status, Streaming, client,
    codegen::BoxFuture,
    server::{ClientStreamingService, Grpc, ServerStreamingService, StreamingService, UnaryService},
    transport::Channel,
};
use tonic_prost::ProstCodec;

use crate::{
    client::{Body, Problem},
    endpoint::Endpoint,
};

/// The one message.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Note {
    /// Some text.
    #[prost(string, tag = "1")]
    pub text: String,
    /// A number.
    #[prost(int64, tag = "2")]
    pub number: i64,
}

impl Note {
    /// A message.
    pub fn new(text: &str, number: i64) -> Note {
        Note { text: text.to_owned(), number }
    }
}

/// An endpoint that speaks gRPC: `Say` echoes (and fails when told `fail`), `Count` counts down, `Sum` adds up,
/// `Chat` answers each message at once.
pub async fn endpoint() -> Endpoint {
    Endpoint::start(serve).await
}

/// What that endpoint answers.
pub async fn serve(request: Request<Incoming>) -> Result<Response<Body>, Problem> {
    let method = request.uri().path().to_owned();
    let codec = || ProstCodec::<Note, Note>::default();
    let answer = match method.as_str() {
        "/notes.Notes/Say" => Grpc::new(codec()).unary(Say, request).await,
        "/notes.Notes/Count" => Grpc::new(codec()).server_streaming(Count, request).await,
        "/notes.Notes/Sum" => Grpc::new(codec()).client_streaming(Sum, request).await,
        "/notes.Notes/Chat" => Grpc::new(codec()).streaming(Chat, request).await,
        _ => Status::unimplemented("no such method").into_http(),
    };
    Ok(answer.map(|body| body.map_err(Problem::from).boxed_unsync()))
}

type Notes = Pin<Box<dyn Stream<Item = Result<Note, Status>> + Send>>;

struct Say;
impl UnaryService<Note> for Say {
    type Response = Note;
    type Future = BoxFuture<tonic::Response<Note>, Status>;
    fn call(&mut self, request: tonic::Request<Note>) -> Self::Future {
        Box::pin(async move {
            let note = request.into_inner();
            if note.text == "fail" {
                return Err(Status::new(Code::FailedPrecondition, "told to fail"));
            }
            Ok(tonic::Response::new(Note::new(&format!("you said {}", note.text), note.number)))
        })
    }
}

struct Count;
impl ServerStreamingService<Note> for Count {
    type Response = Note;
    type ResponseStream = Notes;
    type Future = BoxFuture<tonic::Response<Notes>, Status>;
    fn call(&mut self, request: tonic::Request<Note>) -> Self::Future {
        Box::pin(async move {
            let from = request.into_inner().number;
            let notes: Notes =
                Box::pin(stream::iter((1..=from).rev().map(|number| Ok(Note::new("count", number)))));
            Ok(tonic::Response::new(notes))
        })
    }
}

struct Sum;
impl ClientStreamingService<Note> for Sum {
    type Response = Note;
    type Future = BoxFuture<tonic::Response<Note>, Status>;
    fn call(&mut self, request: tonic::Request<Streaming<Note>>) -> Self::Future {
        Box::pin(async move {
            let mut notes = request.into_inner();
            let mut sum = 0;
            while let Some(note) = notes.message().await? {
                sum += note.number;
            }
            Ok(tonic::Response::new(Note::new("sum", sum)))
        })
    }
}

struct Chat;
impl StreamingService<Note> for Chat {
    type Response = Note;
    type ResponseStream = Notes;
    type Future = BoxFuture<tonic::Response<Notes>, Status>;
    fn call(&mut self, request: tonic::Request<Streaming<Note>>) -> Self::Future {
        Box::pin(async move {
            let notes =
                request.into_inner().map(|note| note.map(|note| Note::new(&note.text, note.number + 1)));
            Ok(tonic::Response::new(Box::pin(notes) as Notes))
        })
    }
}

/// The client's side.
pub struct Caller {
    grpc: client::Grpc<Channel>,
}

impl Caller {
    /// Connects to an address in plaintext.
    pub async fn connect(addr: std::net::SocketAddr) -> Caller {
        let channel = Channel::from_shared(format!("http://{addr}")).expect("an address").connect().await;
        Caller { grpc: client::Grpc::new(channel.expect("a connection")) }
    }

    /// Unary.
    pub async fn say(&mut self, method: &'static str, note: Note) -> Result<tonic::Response<Note>, Status> {
        self.unary(method, tonic::Request::new(note)).await
    }

    /// Unary, with fields of the caller's.
    pub async fn unary(
        &mut self,
        method: &'static str,
        request: tonic::Request<Note>,
    ) -> Result<tonic::Response<Note>, Status> {
        self.ready().await;
        let path = PathAndQuery::from_static(method);
        self.grpc.unary(request, path, ProstCodec::<Note, Note>::default()).await
    }

    /// Server streaming.
    pub async fn count(&mut self, from: i64) -> Result<Streaming<Note>, Status> {
        self.ready().await;
        let path = PathAndQuery::from_static("/notes.Notes/Count");
        let request = tonic::Request::new(Note::new("", from));
        let answer = self.grpc.server_streaming(request, path, ProstCodec::<Note, Note>::default()).await?;
        Ok(answer.into_inner())
    }

    /// Client streaming.
    pub async fn sum(&mut self, numbers: Vec<i64>) -> Result<Note, Status> {
        self.ready().await;
        let path = PathAndQuery::from_static("/notes.Notes/Sum");
        let notes = stream::iter(numbers.into_iter().map(|number| Note::new("", number)));
        let request = tonic::Request::new(notes);
        let answer = self.grpc.client_streaming(request, path, ProstCodec::<Note, Note>::default()).await?;
        Ok(answer.into_inner())
    }

    /// Both ways.
    pub async fn chat<S>(&mut self, notes: S) -> Result<Streaming<Note>, Status>
    where
        S: Stream<Item = Note> + Send + 'static,
    {
        self.ready().await;
        let path = PathAndQuery::from_static("/notes.Notes/Chat");
        let request = tonic::Request::new(notes);
        Ok(self.grpc.streaming(request, path, ProstCodec::<Note, Note>::default()).await?.into_inner())
    }

    async fn ready(&mut self) {
        self.grpc.ready().await.expect("a connection that is ready");
    }
}
