//! The scrape port: `/metrics`, `/livez`, `/readyz`.
