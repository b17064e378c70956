//! What becomes of a trained, masked network? It is packed, proved and judged, once.

use crate::{
    Evaluation, Outcome, Proof, Split, TrainError,
    drive::Trained,
    evaluate, logits,
    pruner::Masks,
    rewind::{Weights, restore, snapshot, state},
};
use secateur_kernels::Dispatcher;
use secateur_mask::Pattern;
use secateur_nn::{Network, NnError, fold_dead, shrink, weight_name};
use secateur_storage::{Checkpoint, Dense, Format, Packed};

/// Takes out the units that nobody needs any more if that is wanted, packs what the masks keep, proves it,
/// and looks at the test samples for the first and last time.
pub(crate) fn finish<N: Network>(
    mut network: N,
    trained: Trained,
    (pattern, fold): (Pattern, bool),
    split: &Split,
    dispatcher: &Dispatcher,
) -> Result<Outcome<N>, TrainError> {
    let Trained { dense, masks, rounds, chosen } = trained;
    for (name, layer) in network.layers_mut() {
        if let Some(mask) = masks.get(&weight_name(&name)) {
            layer.set_mask(mask.clone())?;
        }
    }
    let mut masks = masks;
    if fold {
        fold_dead(&mut network)?;
        for (name, layer) in network.layers() {
            if let (Some(mask), Some(held)) = (layer.mask(), masks.get_mut(&weight_name(&name))) {
                held.clone_from(mask);
            }
        }
    }
    let shrunk = match pattern {
        Pattern::Channel(_) => match shrink(&network) {
            // Not every network can do without a unit: groups, sums of layers.
            Err(NnError::NotAChain(_)) => None,
            shrunk => Some(shrunk?),
        },
        _ => None,
    };
    let (pruned, mask_file) = pack(&snapshot(&state(&network))?, &masks, pattern)?;
    let dense_test = judge(&network, &dense, split)?;
    let masked_logits = logits(&network, &split.test)?;
    for (name, layer) in network.layers_mut() {
        let name = weight_name(&name);
        if let Some(packed) = pruned.tensors.get(&name)
            && masks.contains_key(&name)
        {
            layer.pack(packed, dispatcher)?;
        }
    }
    let packed_logits = logits(&network, &split.test)?;
    let proof = Proof::of(&packed_logits, &masked_logits)?;
    let pruned_test = Evaluation::of(&packed_logits, split.test.ys())?;
    let (dense, _) = pack(&dense, &Masks::new(), pattern)?;
    Ok(Outcome {
        network,
        dense,
        pruned,
        masks: mask_file,
        shrunk,
        dense_test,
        pruned_test,
        proof,
        rounds,
        chosen,
    })
}

/// Packs what the masks keep, by way of the bytes of the file: every claim is proved twice.
fn pack(
    weights: &Weights,
    masks: &Masks,
    pattern: Pattern,
) -> Result<(Checkpoint, Checkpoint), TrainError> {
    let (mut pruned, mut mask_file) = (Checkpoint::default(), Checkpoint::default());
    for (name, weight) in weights {
        let dense = Dense::new(weight.flatten_all()?.to_vec1::<f32>()?, weight.dims())?;
        let packed = match masks.get(name) {
            Some(mask) => Packed::pack(&dense, mask, pattern)?,
            None => dense.into(),
        };
        // A layer that kept everything is dense, and claims nothing.
        if packed.format() != Format::Dense {
            pruned.patterns.insert(name.clone(), pattern);
        }
        pruned.tensors.insert(name.clone(), packed);
    }
    for (name, mask) in masks {
        mask_file.masks.insert(name.clone(), mask.clone());
        mask_file.patterns.insert(name.clone(), pattern);
    }
    Ok((Checkpoint::from_bytes(pruned.to_bytes()?)?, mask_file))
}

/// Puts the dense weights back for one look at the test samples.
fn judge<N: Network>(
    network: &N,
    dense: &Weights,
    split: &Split,
) -> Result<Evaluation, TrainError> {
    let state = state(network);
    let sparse = snapshot(&state)?;
    restore(&state, dense)?;
    let evaluation = evaluate(network, &split.test);
    restore(&state, &sparse)?;
    evaluation
}
