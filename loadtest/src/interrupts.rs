//! How often a run was told to end: Ctrl-C, SIGTERM and SIGHUP count alike.

use tokio::sync::watch;

/// A count that work looks at, or waits for; clones share it.
#[derive(Clone)]
pub struct Interrupts(watch::Receiver<u32>);

impl Interrupts {
    /// The count, and what raises it.
    pub fn new() -> (watch::Sender<u32>, Interrupts) {
        let (sender, receiver) = watch::channel(0);
        (sender, Interrupts(receiver))
    }

    /// For work that whoever started it drops instead of telling it.
    pub fn never() -> Interrupts {
        Interrupts::new().1
    }

    pub fn count(&self) -> u32 {
        *self.0.borrow()
    }

    /// Until there were so many; for ever if they do not come.
    pub async fn reach(&self, count: u32) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|found| *found >= count).await.is_err() {
            // Nobody can raise the count any more.
            std::future::pending().await
        }
    }
}
