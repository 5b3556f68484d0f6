//! Portcullis: proxy.
