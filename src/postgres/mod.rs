//! Connection, TLS, COPY encoding and error classes of PostgreSQL.
