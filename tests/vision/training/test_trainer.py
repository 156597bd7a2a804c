from __future__ import annotations

import math

import pytest
import tiny_images
import torch
from tiny_images import ALONE, tiny_data, tiny_settings, trainer
from torch.nn import functional as F
from training_runs import assert_same, weights

from fairseq_cgc.core import UserError
from fairseq_cgc.vision.data.loader import Normalize, training_batches
from fairseq_cgc.vision.data.seeds import derive_seed
from fairseq_cgc.vision.training import learner as learner_module
from fairseq_cgc.vision.training import settings as settings_module
from fairseq_cgc.vision.training import trainer as trainer_module
from fairseq_cgc.vision.training.checkpoints import load_checkpoint
from fairseq_cgc.vision.training.distributed import Processes
from fairseq_cgc.vision.training.learner import Learner
from fairseq_cgc.vision.training.run_options import RunOptions
from fairseq_cgc.vision.training.trainer import Trainer
from fairseq_cgc.vision.training_log import read_log


class Interrupted(Exception):
    pass


def interrupt(monkeypatch: pytest.MonkeyPatch, *, after: int) -> None:
    """Fail in the middle of an update, after so many of this process."""
    update, made = Learner.update, 0

    def fail(self, *arguments, **place):
        nonlocal made
        if made == after:
            raise Interrupted
        made += 1
        update(self, *arguments, **place)

    monkeypatch.setattr(Learner, "update", fail)


@pytest.mark.parametrize("after", [3, 5, 7])  # 4 updates an epoch; saved at 2 and 4
@pytest.mark.parametrize(
    "changes",
    [
        {"model": "resnet8_cifar_cgc"},
        {"mixup": 0.4, "accumulate": 2, "schedule": "cosine", "warmup_epochs": 1},
        {"precision": "bfloat16", "label_smoothing": 0.1, "channels_last": True},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_interrupted_is_as_uninterrupted(changes, after, tmp_path):
    settings = tiny_settings(**changes)
    trainer(tmp_path / "whole", settings).run()
    part = tmp_path / "part"
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, after=after)
        with pytest.raises(Interrupted):
            trainer(part, settings, save_updates=2).run()
    torch.rand(after)  # another process would have other random numbers
    trainer(part, settings).run()
    assert_same(weights(part / "last.pt"), weights(tmp_path / "whole" / "last.pt"))
    assert_same(weights(part / "best.pt"), weights(tmp_path / "whole" / "best.pt"))
    ours, theirs = read_log(part), read_log(tmp_path / "whole")
    assert [line["epoch"] for line in ours] == [1, 2, 3]
    for name in ("updates", "lr", "train_loss", "train_top1", "val_loss", "val_top1", "val_top5"):
        values = [[line[name] for line in log] for log in (ours, theirs)]
        assert values[0] == pytest.approx(values[1], rel=1e-12)


def test_a_seed_decides_everything(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        trainer(tmp_path / name, tiny_settings(seed=seed, epochs=1)).run()
    ours, same, other = (weights(tmp_path / name / "last.pt") for name in "abc")
    assert_same(ours, same)
    assert not torch.equal(ours["conv1.weight"], other["conv1.weight"])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_updates_are_those_of_sgd(accumulate, tmp_path, monkeypatch):
    monkeypatch.setattr(settings_module, "create_model", tiny_images.linear)
    settings = tiny_settings(
        epochs=2,
        accumulate=accumulate,
        milestones=(1,),
        label_smoothing=0.1,
        weight_decay=0.02,
        momentum=0.8,
    )
    trained = trainer(tmp_path / "x", settings)
    weight, bias = (p.detach().clone().requires_grad_() for p in trained.learner.model.parameters())
    trained.run()
    images = tiny_data().train
    normalize = Normalize(images, torch.device("cpu"), channels_last=False)
    speeds = [torch.zeros_like(weight), torch.zeros_like(bias)]
    for epoch, rate in enumerate((0.05, 0.005)):
        seed = derive_seed(1, "augmentation", epoch)
        for batch in training_batches(26, settings, epoch, ALONE):
            inputs = normalize(images.batch(batch, seed=seed)).flatten(1)
            logits = inputs @ weight.T + bias
            targets = 0.9 * F.one_hot(images.labels[batch], 3) + 0.1 / 3
            loss = -(targets * logits.log_softmax(1)).sum(1).mean()
            gradients = torch.autograd.grad(loss, [weight, bias])
            for p, gradient, speed in zip([weight, bias], gradients, speeds, strict=True):
                speed.mul_(0.8).add_(gradient + 0.02 * p.detach())
                p.data -= rate * speed
    got = [*trained.learner.model.parameters()]
    torch.testing.assert_close(got[0], weight)
    torch.testing.assert_close(got[1], bias)


def test_mixup_reaches_the_model(tmp_path, monkeypatch):
    shares = []

    def record(*arguments, share, partners):
        shares.append(share)
        assert sorted(partners.tolist()) == [*range(len(arguments[0]))]
        return original(*arguments, share=share, partners=partners)

    original = learner_module.mixup
    monkeypatch.setattr(learner_module, "mixup", record)
    trainer(tmp_path / "x", tiny_settings(mixup=0.2, epochs=1)).run()
    assert len(set(shares)) == 4 and all(0 <= share <= 1 for share in shares)


def test_which_checkpoints_are_kept(tmp_path, monkeypatch):
    tops = iter([50.0, 70.0, 70.0, 60.0])
    evaluate = trainer_module.evaluate

    def scripted(*arguments, **options):
        scores = evaluate(*arguments, **options)
        return type(scores)(next(tops), scores.top5, scores.loss, scores.samples)

    monkeypatch.setattr(trainer_module, "evaluate", scripted)
    progress = trainer(tmp_path / "x", tiny_settings(epochs=4), keep_epochs=2).run()
    assert (progress.best_epoch, progress.best_top1) == (2, 70.0)
    assert sorted(path.name for path in (tmp_path / "x").glob("*.pt")) == [
        *("best.pt", "epoch_0002.pt", "epoch_0004.pt", "last.pt"),
    ]
    assert load_checkpoint(tmp_path / "x" / "best.pt").progress.epoch == 2
    assert_same(weights(tmp_path / "x" / "last.pt"), weights(tmp_path / "x" / "epoch_0004.pt"))


def test_a_finished_training_is_not_continued(tmp_path, caplog):
    trainer(tmp_path / "x", tiny_settings(epochs=1)).run()
    before = (tmp_path / "x" / "last.pt").read_bytes()
    with caplog.at_level("INFO", "fairseq_cgc"):
        trainer(tmp_path / "x", tiny_settings(epochs=1)).run()
    assert "trained before" in caplog.text
    assert (tmp_path / "x" / "last.pt").read_bytes() == before


def test_other_settings_and_data_are_refused(tmp_path):
    trainer(tmp_path / "x", tiny_settings(epochs=1)).run()
    with pytest.raises(UserError, match=r"was trained with --lr 0.05, now it is 0.1"):
        trainer(tmp_path / "x", tiny_settings(epochs=1, lr=0.1))
    with pytest.raises(UserError, match="with train images 26, now it is 27"):
        Trainer(tiny_data(27), tiny_settings(epochs=1), tmp_path / "x", RunOptions(), ALONE)


class _AloneInItsFolder(Processes):
    """A process that sees another folder than the main one, whose training was interrupted."""

    def total(self, numbers: torch.Tensor) -> torch.Tensor:
        return numbers + 3

    def wait(self) -> None:
        pass


def test_machines_with_folders_of_their_own_are_refused(tmp_path, monkeypatch):
    """Each would resume from another place, and average gradients of different epochs."""
    monkeypatch.setattr(learner_module, "DistributedDataParallel", lambda model, device_ids: model)
    second = _AloneInItsFolder(torch.device("cpu"), rank=1, size=2)
    with pytest.raises(UserError, match=r"--out is .*, but must be a folder that all machines"):
        trainer(tmp_path / "x", tiny_settings(), second)


def test_a_loss_that_is_not_finite_ends_the_training(tmp_path):
    settings = tiny_settings(lr=1e30, epochs=2)
    with pytest.raises(UserError, match=r"the loss is (nan|inf) in epoch 1, .* a smaller --lr"):
        trainer(tmp_path / "x", settings, save_updates=1).run()
    for path in (tmp_path / "x").glob("*.pt"):
        checkpoint = load_checkpoint(path)
        assert math.isfinite(checkpoint.progress.loss)


def test_a_damaged_checkpoint_is_named(tmp_path):
    trainer(tmp_path / "x", tiny_settings(epochs=1)).run()
    (tmp_path / "x" / "last.pt").write_bytes(b"PK")
    with pytest.raises(UserError, match="last.pt is damaged"):
        trainer(tmp_path / "x", tiny_settings(epochs=1))


def test_a_checkpoint_of_another_training_is_not_continued(tmp_path):
    for name, changes in (("x", {}), ("y", {"model": "resnet14_cifar"}), ("z", {"lr": 0.06})):
        trainer(tmp_path / name, tiny_settings(epochs=1, **changes)).run()
    for name in "yz":
        (tmp_path / "x" / "last.pt").write_bytes((tmp_path / name / "last.pt").read_bytes())
        with pytest.raises(UserError, match=r"last.pt is of another training than settings.json"):
            trainer(tmp_path / "x", tiny_settings(epochs=1))


def test_normalisations_of_one_sample_are_told(tmp_path):
    settings = tiny_settings(batch_size=4, accumulate=4, cgc={"latent_size": 1})
    with pytest.raises(UserError, match=r"--batch-size is 4, but must be at least 8 with resnet8"):
        trainer(tmp_path / "x", settings).run()


def test_float16_scales_the_loss(tmp_path):
    trained = trainer(tmp_path / "x", tiny_settings(precision="float16", epochs=1))
    trained.run()
    assert trained.learner.scaler.is_enabled()
    assert all(value.isfinite().all() for value in weights(tmp_path / "x" / "last.pt").values())
    assert load_checkpoint(tmp_path / "x" / "last.pt").scaler["scale"] > 1


def test_impossible_options_are_refused(tmp_path):
    with pytest.raises(UserError, match="--sync-batch-norm needs several processes with a GPU"):
        trainer(tmp_path / "x", tiny_settings(sync_batch_norm=True))
    with pytest.raises(UserError, match="--save-updates is -1, but must be at least 0"):
        RunOptions(save_updates=-1)
    with pytest.raises(UserError, match="there is no model 'resnet9'"):
        trainer(tmp_path / "x", tiny_settings(model="resnet9"))
    assert [*(tmp_path / "x").iterdir()] == []
