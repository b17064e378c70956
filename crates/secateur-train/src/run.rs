//! What is the whole job? Train, prune, retrain, prove the pattern, pack, run packed, judge.

use crate::{
    DataError, Evaluation, Observer, Outcome, Proof, Samples, Schedule, Split, Stretch, TrainError,
    Training, calibrate, evaluate, fit, logits,
};
use candle_core::{Tensor, Var};
use secateur_criteria::{Allocation, Criterion, Cut, prune_in_steps};
use secateur_kernels::Dispatcher;
use secateur_mask::{Mask, MaskError, Pattern, Sparsity};
use secateur_nn::{Network, weight_name};
use secateur_storage::{Checkpoint, Dense, Format, Packed};
use std::collections::BTreeMap;

/// The prune–retrain loop: four independent choices, two training routines and a seed.
///
/// The quick start of the facade crate runs one; `tests/custom.rs` runs one with its own criterion.
#[derive(Debug)]
pub struct Run {
    /// *Which* weights matter.
    pub criterion: Box<dyn Criterion>,
    /// In *what shape* they go.
    pub pattern: Pattern,
    /// *How much* of each layer goes.
    pub allocation: Box<dyn Allocation>,
    /// *When* how much goes.
    pub schedule: Box<dyn Schedule>,
    /// How the dense network is trained.
    pub training: Training,
    /// How it is retrained after each pruning.
    pub retraining: Training,
    /// Where all random numbers come from.
    pub seed: u64,
}

impl Run {
    /// Runs the whole job on a freshly initialised `network`.
    ///
    /// All choices are made on training and validation samples. The test samples are looked at once,
    /// at the end, by the finished networks. The packed network is read back from the bytes that
    /// would be written, so the pattern is proved on those, and its outputs are compared with the
    /// masked network's: [`Proof::holds`] says whether they are.
    pub fn execute<N: Network>(
        &self,
        mut network: N,
        split: &Split,
        observer: &mut dyn Observer,
    ) -> Result<Outcome<N>, TrainError> {
        self.training.check()?;
        self.retraining.check()?;
        self.check_targets()?;
        for (part, samples) in
            [("training", &split.train), ("validation", &split.validation), ("test", &split.test)]
        {
            if samples.is_empty() {
                return Err(DataError::Inconsistent(format!("the {part} part is empty")).into());
            }
        }
        // Not `probe`: what was once measured on this machine must not decide about bytes of a report.
        let dispatcher = Dispatcher::built_in()?;

        let stretch = Stretch {
            name: "dense",
            training: &self.training,
            masks: &BTreeMap::new(),
            seed: self.seed,
        };
        fit(&network, split, &stretch, observer)?;
        let dense = checkpoint(&network)?;

        let mut masks = BTreeMap::new();
        let rounds = self.schedule.rounds();
        for round in 0..rounds {
            let Some(target) = self.schedule.at(round) else { break };
            masks = self.prune_round(&mut network, &masks, target, &split.train)?;
            let name = format!("retrain {}/{rounds}", round + 1);
            let stretch =
                Stretch { name: &name, training: &self.retraining, masks: &masks, seed: self.seed };
            fit(&network, split, &stretch, observer)?;
        }

        let (pruned, mask_file) = self.pack(&network, &masks)?;
        let dense_test = self.judge_dense(&network, &dense, &split.test)?;
        let masked_logits = logits(&network, &split.test)?;
        for (name, layer) in network.layers_mut() {
            if let Some(packed) = pruned.tensors.get(&weight_name(&name))
                && masks.contains_key(&weight_name(&name))
            {
                layer.pack(packed, &dispatcher)?;
            }
        }
        let packed_logits = logits(&network, &split.test)?;
        let proof = Proof::of(&packed_logits, &masked_logits)?;
        let pruned_test = Evaluation::of(&packed_logits, split.test.ys())?;
        Ok(Outcome { network, dense, pruned, masks: mask_file, dense_test, pruned_test, proof })
    }

    /// Refuses now what pruning would refuse after the dense training.
    fn check_targets(&self) -> Result<(), TrainError> {
        let targets = (0..).map_while(|round| self.schedule.at(round));
        for asked in targets {
            if let Some(fixed) = self.pattern.fixed_sparsity()
                && fixed != asked
            {
                let pattern = self.pattern;
                return Err(MaskError::FixedSparsity { pattern, fixed, asked }.into());
            }
        }
        Ok(())
    }

    /// Observes what the criterion needs on training samples, scores, selects and cuts; returns the new
    /// masks by parameter name.
    fn prune_round<N: Network>(
        &self,
        network: &mut N,
        masks: &BTreeMap<String, Mask>,
        target: Sparsity,
        samples: &Samples,
    ) -> Result<BTreeMap<String, Mask>, TrainError> {
        let vars: BTreeMap<String, Var> = network
            .layers()
            .into_iter()
            .filter_map(|(name, layer)| Some((weight_name(&name), layer.weight()?.clone())))
            .collect();
        let weights = vars
            .iter()
            .map(|(name, var)| Ok((name.clone(), var.copy()?.detach())))
            .collect::<Result<BTreeMap<String, Tensor>, TrainError>>()?;
        let needs = self.criterion.needs();
        let observe = |weights: &BTreeMap<String, Tensor>| {
            for (name, weight) in weights {
                vars[name].set(weight)?;
            }
            calibrate(network, samples, needs)
        };
        let asked = (self.pattern, target);
        let (criterion, allocation) = (&*self.criterion, &*self.allocation);
        let cuts: BTreeMap<String, Cut> =
            prune_in_steps(&weights, masks, criterion, asked, allocation, observe)?;
        let mut masks = BTreeMap::new();
        for (name, layer) in network.layers_mut() {
            let name = weight_name(&name);
            if let Some(cut) = cuts.get(&name) {
                if let (Some(repaired), Some(weight)) = (&cut.weight, layer.weight()) {
                    weight.set(repaired)?;
                }
                layer.set_mask(cut.mask.clone())?;
                masks.insert(name, cut.mask.clone());
            }
        }
        Ok(masks)
    }

    /// Packs what the masks keep, by way of the bytes of the file: every claim is proved twice.
    fn pack<N: Network>(
        &self,
        network: &N,
        masks: &BTreeMap<String, Mask>,
    ) -> Result<(Checkpoint, Checkpoint), TrainError> {
        let (mut pruned, mut mask_file) = (checkpoint(network)?, Checkpoint::default());
        for (name, mask) in masks {
            if let Some(weight) = pruned.tensors.get(name) {
                let packed = Packed::pack(&weight.unpack(), mask, self.pattern)?;
                // A layer that kept everything is dense, and claims nothing.
                if packed.format() != Format::Dense {
                    pruned.patterns.insert(name.clone(), self.pattern);
                }
                pruned.tensors.insert(name.clone(), packed);
            }
            mask_file.masks.insert(name.clone(), mask.clone());
            mask_file.patterns.insert(name.clone(), self.pattern);
        }
        Ok((Checkpoint::from_bytes(pruned.to_bytes()?)?, mask_file))
    }

    /// Puts the dense weights back for one look at the test samples.
    fn judge_dense<N: Network>(
        &self,
        network: &N,
        dense: &Checkpoint,
        test: &Samples,
    ) -> Result<Evaluation, TrainError> {
        let parameters = network.parameters();
        let mut sparse = BTreeMap::new();
        for (name, parameter) in &parameters {
            sparse.insert(name, parameter.copy()?);
            if let Some(weight) = dense.tensors.get(name) {
                let values = weight.unpack().to_f32()?.into_owned();
                parameter.set(&Tensor::from_vec(values, parameter.shape(), parameter.device())?)?;
            }
        }
        let evaluation = evaluate(network, test);
        for (name, parameter) in &parameters {
            if let Some(weight) = sparse.get(name) {
                parameter.set(weight)?;
            }
        }
        evaluation
    }
}

/// Every parameter of a network, dense.
fn checkpoint<N: Network>(network: &N) -> Result<Checkpoint, TrainError> {
    let mut checkpoint = Checkpoint::default();
    for (name, parameter) in network.parameters() {
        let values = parameter.flatten_all()?.to_vec1::<f32>()?;
        checkpoint.tensors.insert(name, Dense::new(values, parameter.dims())?.into());
    }
    Ok(checkpoint)
}
