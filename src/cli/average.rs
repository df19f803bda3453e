//! `dfcnn average`: one model from several of the same network.

use std::path::PathBuf;

use clap::Args;
use dfcnn::Error;
use dfcnn::model::Model;
use dfcnn::network::Precision;

use super::Verbosity;

/// Average models that come from one another by further training, weight by weight.
///
/// Stretches of training with a learning rate that rises and falls end in different places of one valley; the middle is often
/// better than each (Izmailov et al. 2018, "Averaging weights leads to wider optima and better generalization"; Wortsman et
/// al. 2022, "Model soups"). The settings of the last model are kept.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Folders of the models; one that is named twice counts twice
    #[arg(value_name = "DIR", required = true, num_args = 2..)]
    models: Vec<PathBuf>,
    /// Folder of the new model
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Reads the models, writes their average.
pub fn run(arguments: &Arguments, verbosity: Verbosity) -> anyhow::Result<()> {
    let models: Vec<Model> = arguments.models.iter().map(Model::load).collect::<dfcnn::Result<_>>()?;
    let mean = average(&models).map_err(|(index, problem)| Error::model(&arguments.models[index], problem))?;
    mean.save(&arguments.out, Precision::F16)?;
    verbosity.warn(format_args!("wrote {}: the average of {} models", arguments.out.display(), models.len()));
    Ok(())
}

/// The last of the models, with the means of all weights; or which of them does not fit, and why.
fn average(models: &[Model]) -> Result<Model, (usize, String)> {
    let mut mean = models.last().ok_or((0, "there is nothing to average".to_owned()))?.clone();
    for (index, model) in models.iter().enumerate() {
        let problem = if model.architecture.summary().iter().any(|layer| layer.int8) {
            "computes in 8 bits; average first, then quantize"
        } else if model.architecture != mean.architecture {
            "is another network than the last one"
        } else if model.tokens != mean.tokens {
            "has other tokens than the last one"
        } else if (&model.spectrogram, &model.normalization) != (&mean.spectrogram, &mean.normalization) {
            "sees other spectrograms than the last one"
        } else {
            continue;
        };
        return Err((index, format!("{problem}; only models that come from one another can be averaged")));
    }
    let paths: Vec<String> = mean.weights.iter().map(|(path, _)| path.to_owned()).collect();
    for path in paths {
        let Some(tensor) = mean.weights.get_mut(&path) else { continue };
        tensor.values.fill(0.0);
        for values in models.iter().filter_map(|model| model.weights.get(&path)).map(|tensor| &tensor.values) {
            tensor.values.iter_mut().zip(values).for_each(|(mean, value)| *mean += value / models.len() as f32);
        }
    }
    Ok(mean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_weight_is_the_mean() {
        let mut models = [(); 3].map(|()| Model::embedded().unwrap());
        for (model, factor) in models.iter_mut().zip([1.0, 2.0, 6.0]) {
            let weight = model.weights.get_mut("c2.weight").unwrap();
            weight.values.iter_mut().for_each(|value| *value *= factor);
        }
        let mean = average(&models).unwrap();
        for (path, tensor) in mean.weights.iter() {
            let factor = if path == "c2.weight" { 3.0 } else { 1.0 };
            for (mean, one) in tensor.values.iter().zip(&models[0].weights.get(path).unwrap().values) {
                assert!((mean - factor * one).abs() <= 1e-5 * one.abs().max(1.0), "{path}: {mean} {one}");
            }
        }
    }

    #[test]
    fn strangers_are_refused() {
        let mut models = [(); 2].map(|()| Model::embedded().unwrap());
        models[0].normalization.mean[3] += 1.0;
        let (index, problem) = average(&models).err().unwrap();
        assert!(index == 0 && problem.contains("other spectrograms"), "{problem}");
        assert!(average(&[]).is_err());
    }
}
