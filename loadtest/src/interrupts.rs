//! Counts requests to end a run: Ctrl-C, SIGTERM and SIGHUP.

use tokio::sync::watch;

/// The count. Clones share it.
#[derive(Clone)]
pub struct Interrupts(watch::Receiver<u32>);

impl Interrupts {
    /// Returns the sender that raises the count, and the count.
    pub fn new() -> (watch::Sender<u32>, Interrupts) {
        let (sender, receiver) = watch::channel(0);
        (sender, Interrupts(receiver))
    }

    /// A count that stays 0, for work that its owner ends by dropping it.
    pub fn never() -> Interrupts {
        Interrupts::new().1
    }

    pub fn count(&self) -> u32 {
        *self.0.borrow()
    }

    /// Waits until the count reaches `count`, possibly forever.
    pub async fn reach(&self, count: u32) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|found| *found >= count).await.is_err() {
            // The sender is gone, so the count cannot rise any more.
            std::future::pending().await
        }
    }
}
