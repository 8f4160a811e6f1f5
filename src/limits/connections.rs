//! Bounds of connections to vCenters and targets, and to listeners (`net`).

use std::time::Duration;

/// Idle connections that one client keeps: as many as requests may be in flight.
pub const IDLE_CONNECTIONS_MAX: usize = 1_024;
/// Time that an unused connection stays open. Common servers and load balancers close theirs after
/// 75 s and 60 s, so the router closes first.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(50);
/// Greatest age of a connection. A DNS change or a switch of backends is followed within this time,
/// and a handshake in two minutes costs nothing that could be measured.
pub const CONNECTION_AGE_MAX: Duration = Duration::from_secs(120);
/// Time for opening a connection in place of one that is old but works. A request waits for it.
pub const CONNECTION_RENEWAL_WAIT: Duration = Duration::from_secs(2);
/// Time in which `init` connects to a vCenter to see its certificate: the default of a source's
/// `timeouts.connect`.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time that an unused connection to a vCenter stays open. vCenter's proxy may close a connection
/// that idles for longer, and a call sent on it would be lost.
pub const VCENTER_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Time that the peer of a connection to a vCenter may be silent at the TCP level before the
/// connection is given up.
pub const VCENTER_SILENCE_MAX: Duration = Duration::from_secs(30);
/// Size to which hyper's reads on an HTTP/1.1 connection grow, and the longest head of an answer.
///
/// The buffer grows from 8 KiB and does not shrink: 8 + 16 + 32 = 56 KiB a connection. 64
/// vCenters * 3 connections * 56 KiB = 10.5 MiB. With hyper's own bound of 408 KiB, a connection
/// takes over 500 KiB. Writes are not split by this bound.
pub const HTTP1_READ_BYTES_MAX: usize = 32 << 10;
/// Interval at which an HTTP/2 connection is probed with a ping.
pub const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(20);
/// Time that an HTTP/2 peer may take to answer a ping before the connection is given up.
pub const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between the start of a connection to a listener and the head of its first request, and
/// between one request and the next.
pub const LISTENER_HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Time in which a client takes the last bytes of a connection that a listener closes.
pub const LISTENER_CLOSE_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections to the admin listener at a time: a scraper, the checks of a load balancer, and a few
/// people.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;
/// Bytes that are read ahead on an HTTP/1.1 connection of a listener, and the longest head of a
/// request. 1,000 connections * (8 + 16 + 32) KiB = 55 MiB, if every client fills its own.
pub const LISTENER_READ_BYTES_MAX: usize = 32 << 10;
/// Bytes that a client may send ahead on an HTTP/2 connection of a listener: the window that the
/// protocol begins with, 2^16 - 1 bytes.
pub const LISTENER_WINDOW_BYTES: u32 = (1 << 16) - 1;

/// Commands over the control socket that the router executes at a time.
pub const CONTROL_CONNECTIONS_MAX: usize = 8;
/// Bytes of such a command. The largest has the text of a configuration (4 MiB at most), of which
/// JSON may write each byte as six: 24 MiB.
pub const CONTROL_REQUEST_BYTES_MAX: u64 = 25 << 20;
/// Time between a connection to the control socket and the end of its command.
pub const CONTROL_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Wait after the control socket could not accept a connection, such as when file descriptors ran
/// out.
pub const CONTROL_RETRY: Duration = Duration::from_secs(1);
