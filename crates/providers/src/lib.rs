//! Portcullis: providers.
