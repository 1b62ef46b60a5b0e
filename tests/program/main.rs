//! The program as people and scripts run it: its own binary, in processes of its own.

mod balancer;
mod brokers;
mod captures;
mod codecs;
mod control;
mod documents;
mod enrolment;
mod life;
mod post;
mod rooms;
mod running;
mod watching;
