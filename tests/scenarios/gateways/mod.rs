//! One back end, three to six gateways in two groups, and all that can go wrong between them: on streams and bare datagrams, and on
//! sessions of the link.

mod defects;
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
use defects::{Defect, Tampered};
use plan::{Setup, Step};

/// The scenario, with something wrong or not.
pub struct Gateways {
    defect: Option<Defect>,
    on_links: bool,
}

impl Scenario for Gateways {
    type Step = Step;

    fn plan(&self, seed: u64) -> Vec<Step> {
        plan::plan(seed)
    }

    fn run(&self, seed: u64, steps: &[Step], trace: &Trace) -> Result<(), String> {
        let setup = if self.on_links { Setup::over_links(seed) } else { Setup::new(seed) };
        run::run(seed, setup, self.defect, steps, trace)
    }
}

#[test]
fn gateways_of_a_group_end_with_the_same() {
    check("gateways_of_a_group_end_with_the_same", 5000, &Gateways { defect: None, on_links: false });
}

#[test]
fn gateways_of_a_group_end_with_the_same_over_links() {
    let scenario = Gateways { defect: None, on_links: true };
    check("gateways_of_a_group_end_with_the_same_over_links", 500, &scenario);
}

fn backend(node: &dyn Node) -> &Backend {
    inner::<BackendNode>(node).backend()
}

fn backend_mut(node: &mut dyn Node) -> &mut Backend {
    inner_mut::<BackendNode>(node).backend_mut()
}

fn gateway(node: &dyn Node) -> &Gateway {
    inner::<GatewayNode>(node).gateway()
}

fn gateway_mut(node: &mut dyn Node) -> &mut Gateway {
    inner_mut::<GatewayNode>(node).gateway_mut()
}

fn inner<N: Node>(node: &dyn Node) -> &N {
    let any: &dyn Any = node;
    let any: &dyn Any = any.downcast_ref::<Tampered>().map_or(any, |tampered| &*tampered.inner);
    any.downcast_ref().expect("each host has its kind of node")
}

fn inner_mut<N: Node>(node: &mut dyn Node) -> &mut N {
    let any: &mut dyn Any = node;
    if any.is::<Tampered>() {
        let tampered = any.downcast_mut::<Tampered>().expect("it was asked");
        return inner_mut(&mut *tampered.inner);
    }
    any.downcast_mut().expect("each host has its kind of node")
}
