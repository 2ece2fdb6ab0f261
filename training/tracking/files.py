"""Names of the files that a run leaves."""

MODEL_FOLDER = "model"
MODEL_FILE = f"{MODEL_FOLDER}/model.keras"
TASK_FILE = "task.json"
SAMPLE_FILE = "sample.txt"
GOLDEN_FILE = "golden.npz"
