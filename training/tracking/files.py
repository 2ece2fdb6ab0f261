"""Names of the files that a run leaves."""

MODEL_FOLDER = "model"
MODEL_FILE = f"{MODEL_FOLDER}/model.keras"
TASK_FILE = "task.json"
GOLDEN_FILE = "golden.npz"
NOTES_FILE = "data_notes.txt"
