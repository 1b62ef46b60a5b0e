//! One back end, three to six gateways in two groups, and all that can go wrong between them.

mod judge;
mod ledger;
mod plan;
mod run;

use hailpost::{
    gateway::{Backend, Gateway},
    node::{BackendNode, GatewayNode, Node},
};
use std::any::Any;

use crate::sim::{Scenario, Trace, check};
use plan::Step;

/// The scenario.
pub struct Gateways;

impl Scenario for Gateways {
    type Step = Step;

    fn plan(&self, seed: u64) -> Vec<Step> {
        plan::plan(seed)
    }

    fn run(&self, seed: u64, steps: &[Step], trace: &Trace) -> Result<(), String> {
        run::run(seed, steps, trace)
    }
}

#[test]
fn gateways_of_a_group_end_with_the_same() {
    check("gateways_of_a_group_end_with_the_same", 300, &Gateways);
}

fn backend(node: &dyn Node) -> &Backend {
    let node: &dyn Any = node;
    node.downcast_ref::<BackendNode>().expect("the host is the back end").backend()
}

fn backend_mut(node: &mut dyn Node) -> &mut Backend {
    let node: &mut dyn Any = node;
    node.downcast_mut::<BackendNode>().expect("the host is the back end").backend_mut()
}

fn gateway(node: &dyn Node) -> &Gateway {
    let node: &dyn Any = node;
    node.downcast_ref::<GatewayNode>().expect("the host is a gateway").gateway()
}

fn gateway_mut(node: &mut dyn Node) -> &mut Gateway {
    let node: &mut dyn Any = node;
    node.downcast_mut::<GatewayNode>().expect("the host is a gateway").gateway_mut()
}
