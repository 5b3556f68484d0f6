//! Portcullis: admin.
