//! Load generator, mock upstream and floor proxies.
