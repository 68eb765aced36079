//! PostgreSQL: configuration → connection with TLS; Arrow → COPY BINARY; catalog → shape, privileges and partitions;
//! SQLSTATE → kind of failure. Nothing here knows what the rows mean.

pub mod actors;
mod binary;
pub mod connection;
pub mod copy;
pub mod error;
pub mod partitions;
pub mod reading;
pub mod refusals;
pub mod retry;
pub mod scope;
pub mod shape;
pub mod sql;
mod tls;
mod value_check;
