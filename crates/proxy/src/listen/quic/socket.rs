//! A worker's UDP socket as quinn sees it: what is for other workers does not show, and what others received for this one
//! does.

use std::{
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use tokio::sync::mpsc;

use super::group::{Membership, Parcel};

/// A socket among those of the others.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) inner: Arc<dyn AsyncUdpSocket>,
    pub(super) membership: Arc<Membership>,
    pub(super) parcels: Mutex<mpsc::Receiver<Parcel>>,
}

impl Shared {
    /// What others received for us.
    fn poll_parcels(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> usize {
        let mut parcels = self.parcels.lock().unwrap_or_else(PoisonError::into_inner);
        let mut count = 0;
        for (buf, meta) in bufs.iter_mut().zip(meta) {
            let Poll::Ready(Some(parcel)) = parcels.poll_recv(cx) else { break };
            // All buffers have the same size, since all sockets do.
            let Some(room) = buf.get_mut(..parcel.bytes.len()) else { continue };
            room.copy_from_slice(&parcel.bytes);
            *meta = parcel.meta;
            count += 1;
        }
        count
    }
}

impl AsyncUdpSocket for Shared {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let from_others = self.poll_parcels(cx, bufs, meta);
        if from_others > 0 {
            return Poll::Ready(Ok(from_others));
        }
        let received = self.inner.poll_recv(cx, bufs, meta);
        if let Poll::Ready(Ok(count)) = received {
            for (buf, meta) in bufs.iter().zip(meta).take(count) {
                let bytes = buf.get(..meta.len).unwrap_or_default();
                // What a socket gives in one piece is of one client, and of one connection but for odd ones.
                if self.membership.hand_on(meta, bytes) {
                    meta.len = 0;
                }
            }
        }
        received
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}
