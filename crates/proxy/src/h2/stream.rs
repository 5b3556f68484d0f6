//! One stream: from its head to a request, and to its turn.

use std::sync::Arc;

use bytes::Bytes;
use h2::{Reason, RecvStream, server::SendResponse};
use http::request::Parts;
use portcullis_core::{Connection, Error};

use super::{head, inbound::Inbound, link::Link};
use crate::{
    refused,
    runtime::Listener,
    streams::{
        arrive::{self, Arrived, Pseudo},
        incoming::give_body,
        shared::Share,
        turn::Turn,
    },
};

/// Serves a stream to its end.
pub(super) async fn run(share: Share, request: http::Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let (shared, Some(watch)) = (&share.shared, &share.watch) else { return };
    let found = shared.worker.runtime().and_then(|runtime| {
        let listener = runtime.listeners.get(&shared.connection.listener)?.clone();
        Some((runtime, listener))
    });
    let Some((runtime, listener)) = found else {
        // The listener vanished; a new connection elsewhere will do better.
        respond.send_reset(Reason::REFUSED_STREAM);
        return;
    };
    let link = Arc::new(Link::new(respond));
    let turn = Turn { shared, watch, link, timeouts: listener.settings.timeouts };
    let (head, body) = request.into_parts();
    match arrive(&head, &listener, &shared.connection) {
        Ok(mut arrived) => {
            drop(listener);
            let inbound = Inbound::new(body, &head.headers);
            drop(head);
            let tunnel = if arrived.is_tunnel() {
                Some(inbound)
            } else {
                let expects = arrived.expects;
                give_body(&mut arrived.request, inbound, &turn.link, expects, &turn.timeouts);
                None
            };
            turn.answer(runtime, arrived.request, tunnel).await;
        }
        Err(error) => {
            turn.refuse(&runtime, &listener, refused::of_parts(&head), &error).await;
        }
    }
}

fn arrive(head: &Parts, listener: &Listener, connection: &Connection) -> Result<Arrived, Error> {
    let fields = head::request_fields(&head.headers, listener.settings.limits.header_count)?;
    let pseudo = Pseudo {
        method: &head.method,
        scheme: head.uri.scheme_str(),
        authority: head.uri.authority().map(http::uri::Authority::as_str),
        path: head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str),
        protocol: head.extensions.get::<h2::ext::Protocol>().map(h2::ext::Protocol::as_str),
    };
    arrive::request(&pseudo, fields, listener, connection)
}
