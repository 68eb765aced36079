//! Configuration → one shared object store client: S3, MinIO or a local folder.
