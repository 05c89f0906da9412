//! The accept loop: who may connect, how many, and when it ends.

use super::connection;
use super::payload::Payload;
use super::peer::{self, Peer};
use super::turned_away::{self, TurnedAway};
use crate::config::server::{Edge, Stream};
use crate::metrics::{Cut, Metrics};
use crate::tasks::Tasks;
use http::{Request, Response};
use hyper::body::Incoming;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// What answers requests.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Answers one; a panic within is its own to catch.
    fn handle(self: Arc<Self>, request: Request<Incoming>) -> impl Future<Output = Response<Payload>> + Send;
}

/// Everything connections share.
pub(crate) struct Acceptor<H> {
    pub(crate) edge: Edge,
    pub(crate) stream: Stream,
    pub(crate) handler: Arc<H>,
    pub(crate) tasks: Tasks,
    pub(crate) metrics: Arc<Metrics>,
    /// Fires when no more is accepted and idle connections close.
    pub(crate) stop: CancellationToken,
    /// Fires when every connection must be gone.
    pub(crate) kill: CancellationToken,
    pub(crate) seats: Arc<Seats>,
    pub(crate) turned_away: TurnedAway,
}

/// Open connections, in all and per address.
#[derive(Debug, Default)]
pub(crate) struct Seats(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    per_ip: HashMap<IpAddr, usize>,
}

/// A place taken; free again when dropped.
pub(crate) struct Seat {
    seats: Arc<Seats>,
    household: IpAddr,
}

/// Whose an address is: that of IPv4 itself, of IPv6 what begins with the same 64 bits, which every subscriber has to
/// choose from.
fn household(ip: IpAddr) -> IpAddr {
    // A socket of both families tells of IPv4 in the form of IPv6, where all of it begins alike.
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        one => one,
    }
}

impl Seats {
    fn take(self: &Arc<Self>, ip: IpAddr, edge: &Edge) -> Result<Seat, Cut> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.all >= edge.max_connections {
            return Err(Cut::MaxConnections);
        }
        let household = household(ip);
        let mine = taken.per_ip.entry(household).or_insert(0);
        // Behind a proxy stand many.
        if *mine >= edge.max_connections_per_ip && !peer::is_trusted(ip, &edge.trusted_proxies) {
            return Err(Cut::MaxConnectionsPerIp);
        }
        *mine = mine.saturating_add(1);
        taken.all = taken.all.saturating_add(1);
        Ok(Seat { seats: self.clone(), household })
    }

    /// Open connections.
    pub(crate) fn open(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).all
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all = taken.all.saturating_sub(1);
        if let Some(mine) = taken.per_ip.get_mut(&self.household) {
            *mine = mine.saturating_sub(1);
            if *mine == 0 {
                taken.per_ip.remove(&self.household);
            }
        }
    }
}

impl<H: Handler> Acceptor<H> {
    /// Accepts until told to stop.
    pub(crate) async fn run(self: Arc<Self>, listener: TcpListener) {
        let mut pause = Duration::from_millis(5);
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    pause = Duration::from_millis(5);
                    self.admit(stream, peer.ip());
                }
                Err(e) => {
                    // Out of descriptors, or the client left while queued: neither is worth a tight loop.
                    tracing::warn!(error = %e, "accept failed");
                    tokio::time::sleep(pause).await;
                    pause = pause.saturating_mul(2).min(Duration::from_secs(1));
                }
            }
        }
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, ip: IpAddr) {
        match self.seats.take(ip, &self.edge) {
            Ok(seat) => {
                let me = self.clone();
                self.tasks.spawn("connection", async move {
                    connection::serve(me, stream, Peer(ip)).await;
                    drop(seat);
                });
            }
            Err(cut) => self.turn_away(stream, cut),
        }
    }

    fn turn_away(self: &Arc<Self>, stream: TcpStream, cut: Cut) {
        self.metrics.cut(cut);
        let edge = &self.edge;
        let most =
            if cut == Cut::MaxConnections { edge.max_connections } else { edge.max_connections_per_ip };
        if let Some(place) = self.turned_away.one_more(cut, most) {
            let stop = self.stop.clone();
            self.tasks.spawn("turned_away", async move {
                let _ = stop.run_until_cancelled(turned_away::tell(stream, cut, most)).await;
                drop(place);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::peer::Net;
    use super::*;

    #[test]
    fn seats_are_bounded_and_come_back() {
        let seats = Arc::new(Seats::default());
        let edge = Edge { max_connections: 3, max_connections_per_ip: 2, ..Edge::default() };
        let ip = |n: u8| IpAddr::from([127, 0, 0, n]);
        let a = seats.take(ip(1), &edge).ok().unwrap();
        let _b = seats.take(ip(1), &edge).ok().unwrap();
        assert_eq!(seats.take(ip(1), &edge).err(), Some(Cut::MaxConnectionsPerIp));
        let _c = seats.take(ip(2), &edge).ok().unwrap();
        assert_eq!(seats.take(ip(3), &edge).err(), Some(Cut::MaxConnections));
        drop(a);
        assert_eq!(seats.open(), 2);
        assert!(seats.take(ip(1), &edge).is_ok());
        let trusted_proxies = Net::parse("127.0.0.9").into_iter().collect();
        let edge = Edge { max_connections: 100, trusted_proxies, ..edge };
        let many: Vec<_> = (0..5).map(|_| seats.take(ip(9), &edge)).collect();
        assert!(many.iter().all(Result::is_ok), "a trusted proxy stands for many");
    }

    #[test]
    fn who_has_many_addresses_is_counted_once() {
        let edge = Edge { max_connections_per_ip: 1, ..Edge::default() };
        for (first, second, fits) in [
            ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", false),
            ("2001:db8:1:2::1", "2001:db8:1:3::1", true),
            ("::ffff:10.0.0.1", "::ffff:10.0.0.2", true),
            ("::ffff:10.0.0.1", "10.0.0.1", false),
        ] {
            let seats = Arc::new(Seats::default());
            let [first, second] = [first, second].map(|ip| ip.parse().unwrap());
            let seat = seats.take(first, &edge).ok().unwrap();
            assert_eq!(seats.take(second, &edge).is_ok(), fits, "{first} {second}");
            drop(seat);
            assert!(seats.take(second, &edge).is_ok(), "{first} {second}");
        }
    }
}
