//! Portcullis: middleware.
