"""Which weights a run keeps: the best epoch, the last one, and the way back of two-stage recipes."""

from dfine_cli.config.schema import Recipe
from dfine_cli.data.classes import ClassMap
from dfine_cli.phases import Phase
from dfine_cli.tensor_file import first_not_finite
from dfine_cli.training.checkpoint import load_state, save_checkpoint, save_weights
from dfine_cli.training.early_stop import EarlyStop
from dfine_cli.training.guard import diverged
from dfine_cli.training.monitor import Monitor, Row
from dfine_cli.training.run_dir import RunDir
from dfine_cli.training.state import TrainState


class Keeper:
    """Writes checkpoints after each epoch.

    With ``schedule.reload_best`` the run has two stages: REFINE starts from the best state before it, and
    every REFINE epoch that does not beat the best since the last reload goes back to that state again.
    """

    def __init__(
        self, recipe: Recipe, classes: ClassMap, run: RunDir, early_stop: EarlyStop, monitor: Monitor
    ) -> None:
        self.recipe = recipe
        self.classes = classes
        self.run = run
        self.phases = early_stop.phases
        self.early_stop = early_stop
        self.monitor = monitor
        self.two_stages = recipe.schedule.reload_best

    def begin_epoch(self, state: TrainState) -> None:
        """Go back to the best weights of stage one at the start of the last phase."""
        c = state.counters
        begins = c.batch == 0 and self.phases.starts(c.epoch) and self._refining(c.epoch)
        if self.two_stages and begins and c.epoch > 0:
            self._reload(state)

    def refuse_diverged(self, state: TrainState) -> None:
        """End the run before weights that are no numbers are scored, or take the place of those before them.

        Raises:
            DfineError: There are such weights.
        """
        for model in (state.model, state.ema.model):
            if name := first_not_finite(model.state_dict()):
                raise diverged(state.counters.epoch + 1, f"values of {name}", self.recipe.optim.lr)

    def end_epoch(self, state: TrainState, row: Row) -> None:
        """Keep the epoch ``row`` if it is the best, reload if the recipe says so, and write ``last.pt``."""
        c = state.counters
        ap, refining = row.get("ap"), self._refining(c.epoch)
        c.epoch, c.batch = c.epoch + 1, 0
        improved = ap is not None and ap > c.best_since_reload
        if ap is not None:
            c.best_since_reload = max(c.best_since_reload, ap)
        unscored_so_far = ap is None and c.best < 0
        if unscored_so_far or (ap is not None and ap > c.best):
            if ap is not None:
                c.best, c.best_epoch = ap, c.epoch - 1
            save_weights(self.run.best, state, self.recipe, self.classes, row)
            if self.two_stages and not refining:
                save_checkpoint(self.run.stage_one, state, self.recipe, self.classes, row)
        if self.two_stages and refining and ap is not None and not improved:
            self._reload(state)
            c.best_since_reload = -1.0
        if ap is not None and (text := self.early_stop.move_on(c)):
            self.monitor.note(text)
        self.save_last(state, row)

    def save_last(self, state: TrainState, row: Row) -> None:
        """Write the file to resume from."""
        save_checkpoint(self.run.last, state, self.recipe, self.classes, row)

    def _refining(self, epoch: int) -> bool:
        return self.phases.at(epoch) is Phase.REFINE

    def _reload(self, state: TrainState) -> None:
        if self.run.stage_one.exists():
            load_state(self.run.stage_one, state, rewind=False)
            self.monitor.note("back to the best weights before the last phase")
