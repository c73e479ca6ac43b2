//! Single flight: of the callers who need one block, one fetches it.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

/// The blocks of one version that are being fetched.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<HashMap<u64, Boarding>>);

#[derive(Debug)]
struct Boarding {
    flight: Arc<Flight>,
    seats: usize,
}

/// One block on its way. The turn is a permit that its holder gives back by Drop, also when its future is
/// cancelled: so the next in the queue always comes on, and nobody waits for someone who is gone.
#[derive(Debug)]
struct Flight {
    turn: Semaphore,
    landed: OnceLock<Bytes>,
}

/// One caller's place at a flight. The last one to leave clears the flight away.
#[derive(Debug)]
pub(super) struct Seat {
    flights: Arc<Flights>,
    block: u64,
    flight: Arc<Flight>,
}

/// What a caller gets.
#[derive(Debug)]
pub(super) enum Turn<'a> {
    /// Somebody else brought it.
    Landed(Bytes),
    /// It is this caller's turn to try, for as long as it keeps the permit.
    Mine(SemaphorePermit<'a>),
}

impl Seat {
    pub(super) fn take(flights: &Arc<Flights>, block: u64) -> Seat {
        let mut map = flights.0.lock();
        let boarding = map.entry(block).or_insert_with(|| Boarding {
            flight: Arc::new(Flight { turn: Semaphore::new(1), landed: OnceLock::new() }),
            seats: 0,
        });
        boarding.seats += 1;
        let flight = Arc::clone(&boarding.flight);
        drop(map);
        Seat { flights: Arc::clone(flights), block, flight }
    }

    pub(super) fn block(&self) -> u64 {
        self.block
    }

    pub(super) async fn turn(&self) -> Turn<'_> {
        match self.flight.turn.acquire().await {
            Ok(permit) => Turn::Mine(permit),
            Err(_closed) => {
                let bytes = self.flight.landed.get();
                Turn::Landed(bytes.expect("a turn is closed only after the landing").clone())
            }
        }
    }

    /// Everybody who waits, and who comes until the flight is cleared away, gets these bytes.
    pub(super) fn land(&self, bytes: Bytes) {
        self.flight.landed.get_or_init(|| bytes);
        self.flight.turn.close();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut map = self.flights.0.lock();
        let boarding = map.get_mut(&self.block).expect("a flight stays while a seat is taken");
        boarding.seats -= 1;
        if boarding.seats == 0 {
            map.remove(&self.block);
        }
    }
}
