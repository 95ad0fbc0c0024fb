//! Who is connected, and who has to make room.
//!
//! A full house does not turn away the next caller while a caller that asks for nothing keeps a place: the
//! connection that has been idle longest, in the handshake, in a request's head or between requests, makes room.
//! It comes from the same address if that address has its share, else from the address with the most connections.
//! A connection with a request in work is never closed for another. So any number of connections that send a byte
//! a second only push each other out.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// Why a caller was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// Its address has its share, each with a request in work.
    Address,
    /// The house is full of requests in work.
    House,
}

impl Full {
    /// Label of the metric.
    pub fn label(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::House => "house",
        }
    }
}

/// Every connection.
#[derive(Debug)]
pub struct Connections {
    most: usize,
    most_per_address: usize,
    began: Instant,
    table: Mutex<Table>,
    evicted: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    open: HashMap<u64, Arc<Connection>>,
}

/// One connection, shared by its task, its requests and the table.
#[derive(Debug)]
pub struct Connection {
    group: IpAddr,
    /// Requests in work.
    busy: AtomicU32,
    /// Requests so far.
    requests: AtomicU64,
    /// When it last began or ended a request, or was accepted: milliseconds since the table began.
    touched: AtomicU64,
    began: Instant,
    close: Notify,
}

impl Connection {
    fn idle(&self) -> bool {
        self.busy.load(Ordering::Relaxed) == 0
    }

    /// Begins its idle time anew.
    pub fn touch(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.touched.store(now, Ordering::Relaxed);
    }

    /// How long there has been no request; `None` while there is one.
    pub fn idle_for(&self) -> Option<Duration> {
        let since = Duration::from_millis(self.touched.load(Ordering::Relaxed));
        self.idle().then(|| self.began.elapsed().saturating_sub(since))
    }

    /// Whether it ever brought a request.
    pub fn has_asked(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > 0
    }

    /// Resolves when the connection has to close.
    pub async fn closed(&self) {
        self.close.notified().await;
    }

    /// Marks a request as in work until the guard is dropped.
    pub fn work(self: &Arc<Self>) -> Work {
        self.busy.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.touch();
        Work(Arc::clone(self))
    }
}

/// A request in work.
#[derive(Debug)]
pub struct Work(Arc<Connection>);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
        self.0.touch();
    }
}

/// A place in the house, free again when dropped.
#[derive(Debug)]
pub struct Place {
    id: u64,
    all: Arc<Connections>,
    /// The connection that has the place.
    pub connection: Arc<Connection>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.table().open.remove(&self.id);
    }
}

impl Connections {
    /// A house for `most` connections, `most_per_address` of them from one address.
    pub fn new(most: usize, most_per_address: usize) -> Arc<Self> {
        let (began, table, evicted) = (Instant::now(), Mutex::default(), AtomicU64::new(0));
        Arc::new(Self {
            most,
            most_per_address,
            began,
            table,
            evicted,
        })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.table().open.len()
    }

    /// How many had to make room so far.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// A place for a caller from `address`; an idle connection may have to make room.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Place, Full> {
        let group = group(address);
        let mut table = self.table();
        let own = table.open.values().filter(|other| other.group == group).count();
        if own >= self.most_per_address {
            self.make_room(&mut table, Some(group)).ok_or(Full::Address)?;
        } else if table.open.len() >= self.most {
            self.make_room(&mut table, None).ok_or(Full::House)?;
        }
        let connection = Arc::new(Connection {
            group,
            busy: AtomicU32::new(0),
            requests: AtomicU64::new(0),
            touched: AtomicU64::new(0),
            began: self.began,
            close: Notify::new(),
        });
        connection.touch();
        let id = table.next;
        table.next += 1;
        table.open.insert(id, Arc::clone(&connection));
        Ok(Place {
            id,
            all: Arc::clone(self),
            connection,
        })
    }

    /// Closes the connection that has been idle longest, of `group` or else of the group with the most
    /// connections that has an idle one.
    fn make_room(&self, table: &mut Table, group: Option<IpAddr>) -> Option<()> {
        let mut sizes: HashMap<IpAddr, usize> = HashMap::new();
        for other in table.open.values() {
            *sizes.entry(other.group).or_default() += 1;
        }
        let (&id, _) = table
            .open
            .iter()
            .filter(|(_, other)| other.idle() && group.is_none_or(|group| group == other.group))
            .max_by_key(|(id, other)| {
                let size = sizes.get(&other.group).copied().unwrap_or(0);
                let age = u64::MAX - other.touched.load(Ordering::Relaxed);
                (size, age, u64::MAX - **id)
            })?;
        let other = table.open.remove(&id)?;
        other.close.notify_one();
        self.evicted.fetch_add(1, Ordering::Relaxed);
        Some(())
    }
}

/// Addresses that are counted as one: an IPv4 address, or the 64-bit network an IPv6 host can pick freely from.
fn group(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn must_close(connection: &Arc<Connection>) -> bool {
        // A stored permit is there at once or not at all.
        let mut closed = std::pin::pin!(connection.closed());
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        closed.as_mut().poll(&mut cx).is_ready()
    }

    #[test]
    fn the_longest_idle_of_the_same_address_makes_room() {
        let house = Connections::new(10, 3);
        let other = house.admit(ip(9)).unwrap();
        let places: Vec<Place> = (0..3).map(|_| house.admit(ip(1)).unwrap()).collect();
        let _new = house.admit(ip(1)).unwrap();
        assert!(must_close(&places[0].connection));
        assert!(!must_close(&places[1].connection) && !must_close(&other.connection));
        assert_eq!((house.len(), house.evicted()), (4, 1));
    }

    #[test]
    fn a_full_house_makes_room_at_the_address_with_the_most() {
        let house = Connections::new(4, 3);
        let single = house.admit(ip(9)).unwrap();
        let many: Vec<Place> = (0..3).map(|_| house.admit(ip(1)).unwrap()).collect();
        let _new = house.admit(ip(2)).unwrap();
        assert!(must_close(&many[0].connection) && !must_close(&single.connection));
    }

    #[test]
    fn a_request_in_work_is_never_closed_for_another() {
        let house = Connections::new(2, 2);
        let first = house.admit(ip(1)).unwrap();
        let second = house.admit(ip(1)).unwrap();
        let (one, _two) = (first.connection.work(), second.connection.work());
        assert_eq!(house.admit(ip(1)).unwrap_err(), Full::Address);
        assert_eq!(house.admit(ip(2)).unwrap_err(), Full::House);
        drop(one);
        assert!(house.admit(ip(2)).is_ok());
        assert!(must_close(&first.connection) && !must_close(&second.connection));
    }

    #[test]
    fn one_ipv6_network_is_one_address() {
        assert_eq!(
            group("2001:db8::1".parse().unwrap()),
            group("2001:db8::ffff:1".parse().unwrap())
        );
        assert_ne!(
            group("2001:db8::1".parse().unwrap()),
            group("2001:db8:0:1::1".parse().unwrap())
        );
        assert_eq!(group("::ffff:10.0.0.1".parse().unwrap()), ip(1));
        assert_ne!(group(ip(1)), group(ip(2)));
    }

    proptest! {
        #[test]
        fn the_bounds_hold_whatever_comes_and_goes(steps in proptest::collection::vec((0_u8..4, any::<bool>()), 0..80)) {
            let house = Connections::new(6, 3);
            let mut open: Vec<(u8, Place, Option<Work>)> = Vec::new();
            for (who, works) in steps {
                if let Ok(place) = house.admit(ip(who)) {
                    let work = works.then(|| place.connection.work());
                    open.push((who, place, work));
                }
                open.retain(|(_, place, work)| {
                    let evicted = must_close(&place.connection);
                    assert!(!(evicted && work.is_some()));
                    !evicted
                });
                prop_assert_eq!(house.len(), open.len());
                prop_assert!(house.len() <= 6);
                for address in 0..4 {
                    prop_assert!(open.iter().filter(|(who, ..)| *who == address).count() <= 3);
                }
                if open.len() > 4 { open.remove(0); }
            }
        }
    }
}
