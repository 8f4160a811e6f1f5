//! A bounded queue from async senders to threads.
//!
//! A sender waits asynchronously for a free slot; the queue behind it is lock-free. A receiver
//! blocks its thread. The pages on their way from the sources to the parse threads use this queue.
//!
//! ```text
//!  send ── waits for a permit (async, first come first served) ──► try_send, never full
//!                      ▲                                               │
//!                      └──────── permit given back ◄──── recv ◄────────┘  blocks its thread
//! ```
//!
//! INVARIANT: a permit stands for a free slot, so a sender with a permit never finds the queue
//! full.
//!
//! Both ends notice when the other is gone. After the last sender, receivers get the remaining
//! items and then `None`. After the last receiver, waiting senders fail.

use std::sync::Arc;

use crossbeam_channel as channel;
use tokio::sync::Semaphore;

/// Creates a queue of `slots` items.
pub fn bounded<T>(slots: usize) -> (Sender<T>, Receiver<T>) {
    let (items_in, items) = channel::bounded(slots);
    let permits = Arc::new(Semaphore::new(slots));
    #[cfg(test)]
    let arrived = Arc::new(tokio::sync::Notify::new());
    let sender = Sender {
        items: items_in,
        permits: Arc::clone(&permits),
        #[cfg(test)]
        arrived: Arc::clone(&arrived),
    };
    let receiver = Receiver {
        items,
        permits: Arc::new(ClosedOnDrop(permits)),
        #[cfg(test)]
        arrived,
    };
    (sender, receiver)
}

/// The async end. Items that one task sends keep their order.
#[derive(Debug)]
pub struct Sender<T> {
    items: channel::Sender<T>,
    permits: Arc<Semaphore>,
    #[cfg(test)]
    arrived: Arc<tokio::sync::Notify>,
}

/// The threads' end. Clones share the items: each item goes to one of them.
#[derive(Debug)]
pub struct Receiver<T> {
    items: channel::Receiver<T>,
    permits: Arc<ClosedOnDrop>,
    #[cfg(test)]
    arrived: Arc<tokio::sync::Notify>,
}

/// The error of a send after the last receiver is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the other end of the queue is gone")]
pub struct Disconnected;

/// Closes the semaphore with the last receiver, which wakes the waiting senders.
#[derive(Debug)]
struct ClosedOnDrop(Arc<Semaphore>);

impl Drop for ClosedOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

// A derived `Clone` would require `T: Clone`.
impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Sender {
            items: self.items.clone(),
            permits: Arc::clone(&self.permits),
            #[cfg(test)]
            arrived: Arc::clone(&self.arrived),
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Receiver {
            items: self.items.clone(),
            permits: Arc::clone(&self.permits),
            #[cfg(test)]
            arrived: Arc::clone(&self.arrived),
        }
    }
}

impl<T> Sender<T> {
    /// Waits for a free slot, then sends `item`. If the future is dropped while it waits, the item
    /// is not sent.
    pub async fn send(&self, item: T) -> Result<(), Disconnected> {
        let permit = self.permits.acquire().await.map_err(|_| Disconnected)?;
        match self.items.try_send(item) {
            Ok(()) => permit.forget(),
            Err(channel::TrySendError::Disconnected(_)) => return Err(Disconnected),
            Err(channel::TrySendError::Full(_)) => unreachable!("a permit stands for a free slot"),
        }
        #[cfg(test)]
        self.arrived.notify_one();
        Ok(())
    }
}

impl<T> Receiver<T> {
    /// Blocks until there is an item. Returns `None` when all senders are gone and the queue is
    /// empty.
    pub fn recv(&self) -> Option<T> {
        let item = self.items.recv().ok()?;
        self.permits.0.add_permits(1);
        Some(item)
    }

    /// As [`Receiver::recv`], but async: under a paused clock, a blocked thread would stop the
    /// test.
    #[cfg(test)]
    pub async fn recv_async(&self) -> Option<T> {
        loop {
            let arrived = self.arrived.notified();
            match self.items.try_recv() {
                Ok(item) => {
                    self.permits.0.add_permits(1);
                    return Some(item);
                }
                Err(channel::TryRecvError::Disconnected) => return None,
                Err(channel::TryRecvError::Empty) => arrived.await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn a_full_queue_makes_the_sender_wait_until_an_item_is_taken() {
        let (sender, receiver) = bounded(2);
        sender.send(1).await.unwrap();
        sender.send(2).await.unwrap();
        let mut third = Box::pin(sender.send(3));
        assert!(poll!(&mut third).is_pending());
        assert_eq!(receiver.recv(), Some(1));
        assert_eq!(poll!(&mut third), std::task::Poll::Ready(Ok(())));
        assert_eq!((receiver.recv(), receiver.recv()), (Some(2), Some(3)));
    }

    #[tokio::test]
    async fn every_permit_comes_back() {
        let (sender, receiver) = bounded(2);
        for i in 0..100 {
            sender.send(i).await.unwrap();
            assert_eq!(receiver.recv(), Some(i));
        }
        sender.send(100).await.unwrap();
        {
            // A sender that gives up while it waits keeps no slot.
            sender.send(101).await.unwrap();
            let mut waits = Box::pin(sender.send(102));
            assert!(poll!(&mut waits).is_pending());
        }
        assert_eq!((receiver.recv(), receiver.recv()), (Some(100), Some(101)));
        assert_eq!(sender.permits.available_permits(), 2);
    }

    #[tokio::test]
    async fn receivers_get_queued_items_after_the_last_sender_is_gone() {
        let (sender, receiver) = bounded(4);
        let second = sender.clone();
        sender.send(1).await.unwrap();
        drop(sender);
        second.send(2).await.unwrap();
        drop(second);
        let receivers = [receiver.clone(), receiver];
        let threads = receivers.map(|receiver| {
            thread::spawn(move || std::iter::from_fn(|| receiver.recv()).collect::<Vec<i32>>())
        });
        let mut got: Vec<i32> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        got.sort_unstable();
        assert_eq!(got, [1, 2]);
    }

    #[tokio::test]
    async fn a_waiting_sender_fails_when_the_last_receiver_is_gone() {
        let (sender, receiver) = bounded(1);
        sender.send(1).await.unwrap();
        let mut waits = Box::pin(sender.send(2));
        assert!(poll!(&mut waits).is_pending());
        let second = receiver.clone();
        drop(receiver);
        assert!(poll!(&mut waits).is_pending(), "one receiver is left");
        drop(second);
        assert_eq!(poll!(&mut waits), std::task::Poll::Ready(Err(Disconnected)));
        assert_eq!(sender.send(3).await, Err(Disconnected));
    }

    /// Many sources, two parse threads: each thread sees the items of one source in their order.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn items_of_one_source_keep_their_order() {
        const SOURCES: usize = 8;
        const ITEMS: u64 = 500;
        let (sender, receiver) = bounded::<(usize, u64)>(4);
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let receiver = receiver.clone();
                thread::spawn(move || {
                    let mut last: [Option<u64>; SOURCES] = [None; SOURCES];
                    let mut count = 0;
                    while let Some((source, item)) = receiver.recv() {
                        let before = last[source].replace(item);
                        assert!(before < Some(item), "{before:?} before {item} of {source}");
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        drop(receiver);
        let sources: Vec<_> = (0..SOURCES)
            .map(|source| {
                let sender = sender.clone();
                tokio::spawn(async move {
                    for item in 0..ITEMS {
                        sender.send((source, item)).await.unwrap();
                    }
                })
            })
            .collect();
        drop(sender);
        for source in sources {
            source.await.unwrap();
        }
        let got: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(got, SOURCES as u64 * ITEMS);
    }
}
