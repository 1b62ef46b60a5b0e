//! The resolver as its driver meets it, against scripted name servers: honest, broken, slow, silent and hostile.

mod bench;
mod dnsmasq;
mod hostile;
mod lookups;
mod servers;
