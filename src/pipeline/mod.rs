pub mod budget;
pub mod deliver;
pub mod destination;
pub mod enrich;
pub mod order;
pub mod parse;
pub mod seen;
pub mod settle;
